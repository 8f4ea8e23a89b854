"""The suite asks for nothing that only a store with one document could do.

``Labels`` behaves like a secret manager with native stages: versions never change, labels move one
call at a time, the first value ever put becomes CURRENT, and CURRENT alone has a compare-and-set.
"""

import hashlib
import json
import threading
import uuid
from contextlib import suppress

import pytest

from cmzon_secrets import Token, TokenStore, Versions, stages
from cmzon_secrets.errors import ConflictError, TokenNotFound, shielded
from cmzon_secrets.records import format_time, from_record, parse_time, to_record
from cmzon_secrets.testing import StoreSuite, interposed


class Refused(Exception):
    """The service's one error."""


class Labels:
    """The service: three calls that change something, each atomic."""

    def __init__(self):
        self.name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._texts, self._labels, self._tag = {}, {}, ""

    def describe(self):
        with self._lock:
            return dict(self._labels), self._tag

    def value(self, version):
        return self._texts[version]

    def put(self, version, text, label):
        with self._lock:
            if self._texts.setdefault(version, text) != text:
                raise Refused("the version exists with another value")
            self._labels[label] = version
            self._labels.setdefault("CURRENT", version)

    def move(self, label, *, to=None, remove_from=None):
        with self._lock:
            holder = self._labels.get(label)
            if to is not None and holder not in (None, to, remove_from):
                raise Refused(f"{label} is held by another version")
            if remove_from is not None and holder != remove_from:
                raise Refused(f"{label} is not where it is to be removed from")
            if label == "CURRENT":
                self._labels["PREVIOUS"] = holder
            self._labels.pop(label, None)
            if to is not None:
                self._labels[label] = to

    def tag(self, text):
        with self._lock:
            self._tag = text

    def paste(self, text):
        version = uuid.uuid4().hex
        with self._lock:
            self._texts[version] = text
            if "CURRENT" in self._labels:
                self._labels["PREVIOUS"] = self._labels["CURRENT"]
            self._labels["CURRENT"] = version


class LabelStore(TokenStore):
    def __init__(self, service, clock):
        self._service, self._clock = service, clock

    @property
    def uri(self):
        return f"labels:{self._service.name}"

    @property
    def identity(self):
        return self.uri

    def get(self):
        current = self.versions().current
        if current is None:
            raise TokenNotFound(f"{self.uri} — empty", uri=self.uri)
        return current

    @shielded
    def versions(self):
        return self._look()[0]

    @shielded
    def stage(self, token):
        held = self.versions()
        if stages.staged(held, token, uri=self.uri) is held:
            return
        version = _version_of(token)
        labels, _ = self._service.describe()
        if labels.get("PENDING") == labels.get("CURRENT"):  # a promote died halfway
            self._take_off("PENDING", labels.get("CURRENT"))
        private = f"writing-{version}"
        self._service.put(version, json.dumps(to_record(token)), private)
        try:
            if self._service.describe()[0]["CURRENT"] != version:
                self._service.move("PENDING", to=version)
        except Refused as error:
            raise ConflictError(f"{self.uri} — PENDING is taken", uri=self.uri) from error
        finally:
            self._service.move(private)

    @shielded
    def promote(self, token_id, *, replacing):
        held, labels = self._look()
        now = self._clock.now()
        after = stages.promoted(held, token_id, replacing=replacing, now=now, uri=self.uri)
        if after is held:
            if held.promoted_at is None:  # staged into an empty place
                self._service.tag(f"{labels['CURRENT']}@{format_time(now)}")
        else:
            self._service.tag(f"{labels['PENDING']}@{format_time(now)}")
            self._swap(labels, token_id)
        self._take_off("PENDING", self._look()[1].get("CURRENT"))

    def _swap(self, labels, token_id):
        try:
            self._service.move("CURRENT", to=labels["PENDING"], remove_from=labels["CURRENT"])
        except Refused as error:
            current = self._look()[0].current
            if current is None or current.id != token_id:
                raise ConflictError(f"{self.uri} — CURRENT has moved", uri=self.uri) from error

    @shielded
    def discard(self, token_id):
        held, labels = self._look()
        after = stages.discarded(held, token_id, uri=self.uri)
        if after.pending is not held.pending:
            self._take_off("PENDING", labels["PENDING"])
        if after.previous is not held.previous:
            self._take_off("PREVIOUS", labels["PREVIOUS"])

    def _take_off(self, label, version):
        with suppress(Refused):  # somebody else did, or it has moved on
            self._service.move(label, remove_from=version)

    def _look(self):
        labels, tag = self._service.describe()
        current, pending = labels.get("CURRENT"), labels.get("PENDING")
        version, _, time = tag.partition("@")
        view = Versions(
            current=self._token(current),
            pending=self._token(pending) if pending != current else None,
            previous=self._token(labels.get("PREVIOUS")),
            promoted_at=parse_time(time) if current and version == current else None,
        )
        return view, labels

    def _token(self, version):
        if version is None:
            return None
        text = self._service.value(version)
        return from_record(json.loads(text)) if text.startswith('{"token": "') else Token(text)


def _version_of(token):
    return hashlib.sha256(json.dumps(to_record(token)).encode()).hexdigest()


class TestLabels(StoreSuite):
    first_stage_is_current = True
    guards_pending = False
    cannot = {
        "opener": "the service lives in this process",
        "aliases": "it has one name",
        "denied": "it refuses nobody",
        "unreachable": "it always answers",
    }

    @pytest.fixture
    def new_place(self):
        return Labels

    def open(self, place, clock):
        return LabelStore(place, clock)

    def paste(self, place, text):
        place.paste(text)

    def steps(self, place, step):
        return interposed(step, place, "describe", "value", "put", "move", "tag")
