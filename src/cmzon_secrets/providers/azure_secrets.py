"""One Key Vault secret that several may write at once: its versions, and who of its writers won.

``azure_versions.py`` decides; here is what it takes to know. A write is final when no rival can come
with the same second any more, by the server's own clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cmzon_secrets.clouds.azure import Calls, Refused
from cmzon_secrets.errors import AccessDenied, ProviderError
from cmzon_secrets.providers.azure_versions import Line, Version

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient

__all__ = ["SETTLED", "Secret"]

SETTLED = 2
"""Seconds of the server's clock after which whatever is put gets a later second than what was."""


LAG = 0.2
"""Seconds before another look at a listing that does not show the latest version yet."""
MENDS = 3
"""How often one call puts a winner in force again: whoever keeps writing over it is none of us."""


class _Listing(NamedTuple):
    versions: list[Version]
    as_of: float
    """Unix seconds of the server when the listing began."""

    def shows(self, version: Version) -> bool:
        return any(v.id == version.id for v in self.versions)

    def unsettled(self, version: Version) -> float:
        """Seconds until nothing can be put in the second of this version."""
        return version.created + SETTLED - self.as_of

    def latest(self, source: Version | None) -> Version | None:
        """The latest version, where it is beyond doubt which it is, and that its value is that of
        ``source``: it is this version, or was promoted from it by a request that arrived once."""
        newest = max(self.versions, key=lambda v: v.age, default=None)
        if source is None or source.value is None or newest is None or not newest.enabled:
            return None
        if sum(v.created == newest.created for v in self.versions) > 1:
            return None
        if newest.id == source.id:
            return source
        made = newest.source == source.id and newest.claim == source.claim
        once = sum(v.request == newest.request for v in self.versions) == 1
        return replace(newest, value=source.value) if made and once else None


class Secret:
    """A secret, within one verb. ``may_be_disabled``: a disabled current version is no error."""

    def __init__(self, calls: Calls, name: str, *, may_be_disabled: bool = False) -> None:
        self._calls = calls
        self._name = name
        self._refusals = ["SecretNotFound"] + ["SecretDisabled"] * may_be_disabled

    def latest(self) -> Version | None:
        """What the service hands out; None where there is no such secret."""
        try:
            return self._get("", self._refusals)
        except Refused as refused:
            if refused.code == "SecretNotFound":
                return None
            return max(self._list().versions, key=lambda v: v.age, default=None)

    def still(self, version_id: str) -> bool:
        """Whether this version is the latest."""
        latest = self.latest()
        return latest is not None and latest.id == version_id

    def version(self, version_id: str) -> Version | None:
        """One version; None where it is not there, or disabled."""
        try:
            return self._get(version_id, ("SecretNotFound", "SecretDisabled"))
        except Refused:
            return None

    def put(
        self, value: str, tags: Mapping[str, str], *, expires_on: datetime | None = None
    ) -> Version:
        """Add a version. Should it be sent twice, both say the same and count as one."""
        return self._calls.ask(
            _put,
            self._calls.secrets,
            self._name,
            value,
            tags={**tags, "cmzon-op": str(uuid.uuid4())},
            content_type="text/plain",
            expires_on=expires_on,
        )

    def put_on(self, base: str, value: str, tags: Mapping[str, str], **more: Any) -> Line | None:
        """Add a version on top of ``base``; all versions then. None where a rival did so, too."""
        ours = self.put(value, {**tags, "cmzon-base": base}, **more)
        now = self._calls.server_time
        if now is not None:  # a listing before that would decide nothing
            self._calls.pause(max(0.0, ours.created + SETTLED - now.timestamp()))
        line = self.line(settled=True, source=ours)
        return line if line is not None and line.won(ours.id) and line.alone(ours.id) else None

    def disable(self, version_id: str) -> None:
        """Let nobody read this version any more."""
        update = self._calls.secrets.update_secret_properties
        self._calls.ask(update, self._name, version_id, enabled=False)

    def line(
        self, *, settled: bool = False, known: Line | None = None, source: Version | None = None
    ) -> Line | None:
        """All versions; the winner is put in force again where it is not. None: no such secret.

        ``settled``: waits until no rival of the latest can turn up. ``known``: the versions as they
        were, final; ``source``: the version that is the latest, or that it was made from, perhaps.
        """
        latest = self.latest() if known is not None else None
        if known is not None and latest is not None and latest.id == known.latest.id:
            return known.under(latest)
        mends = MENDS
        while True:
            listing = self._list()  # before the latest: what is newer than that is no rival of it
            latest = listing.latest(source) or self.latest()
            if latest is None:
                return None
            if settled and (wait := listing.unsettled(latest)) > 0:
                self._calls.pause(wait)
                continue
            if not listing.shows(latest):  # it came in between, or listings lag behind
                self._calls.pause(LAG)
                continue
            line = Line(listing.versions, latest, settled=listing.unsettled(latest) <= 0)
            if line.in_order or not mends or not self._mended(line):
                return line
            mends -= 1

    def deleted(self) -> bool | None:
        """Whether it was deleted and can be recovered; None where we may not know."""
        try:
            self._calls.ask(
                self._calls.secrets.get_deleted_secret,
                self._name,
                expecting=("SecretNotFound", "SecretDisabled"),
            )
        except Refused as refused:
            return refused.code == "SecretDisabled"
        except ProviderError:
            return None
        return True

    def _mended(self, line: Line) -> bool:
        """Put the winner in force again. False where we may not, or where nobody may read it."""
        winner = line.in_force
        whole = self.version(winner.id) if winner is not None else None
        if whole is None or whole.value is None:
            return False
        try:
            self.put(whole.value, whole.put_again(), expires_on=whole.expires_on)
        except AccessDenied:
            return False
        return True

    def _get(self, version_id: str, expecting: list[str] | tuple[str, ...]) -> Version:
        return self._calls.ask(
            _get, self._calls.secrets, self._name, version_id, expecting=expecting
        )

    def _list(self) -> _Listing:
        return self._calls.ask(_list, self._calls, self._name)


def _get(client: SecretClient, name: str, version_id: str, **hook: Any) -> Version:
    found = client.get_secret(name, version_id or None, **hook)
    return Version.of(found.properties, found.value)


def _put(client: SecretClient, name: str, value: str, **more: Any) -> Version:
    found = client.set_secret(name, value, **more)
    return Version.of(found.properties, found.value)


def _list(calls: Calls, name: str, **hook: Any) -> _Listing:
    pages = calls.secrets.list_properties_of_secret_versions(name, **hook).by_page()
    versions = [Version.of(p) for p in next(pages, ())]
    if calls.server_time is None:
        raise ValueError("an answer without a date")
    as_of = calls.server_time.timestamp()
    versions += [Version.of(p) for page in pages for p in page]
    return _Listing(versions, as_of)
