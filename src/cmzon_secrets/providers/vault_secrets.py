"""One secret of a KV v2 mount: read with its version, written by check-and-set and nothing else.

- A standby of OpenBao may lag behind: what is older than this handle has seen is read again. It may
  also see a mismatch where there is none: so a mismatch is a reason to look again, never a conflict.
- Where the answer to a write was lost, the version it would have made is compared with what was sent.
- Every answer must carry a version. A KV v1 mount answers the same calls, ignores check-and-set and
  stores nonsense: it is refused.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, https://openbao.org/api-docs/secret/kv/kv-v2/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from cmzon_secrets.clouds.vault import Calls, OutcomeUnknown, Refused
from cmzon_secrets.deadline import backoff
from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidToken,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.records import parse_time

__all__ = ["BACKOFF", "Held", "Moved", "VaultSecret"]

TRIES = 5
"""How often an answer that seems older than it can be is asked for before it is believed."""
CATCHING_UP = 0.1
"""Seconds between such reads, at most: a standby lags behind by milliseconds."""
BACKOFF = (0.1, 2.0)
"""Seconds of the first and of the longest wait, with full jitter, after another writer was first: 16
writers of one document then need seven attempts at the most."""


class Moved(Exception):
    """Another writer was first, or nobody knows: look again."""


@dataclass(frozen=True, slots=True)
class Held:
    """The latest version, 0 where there is none; ``data`` is None where ``gone`` says why."""

    version: int
    data: Mapping[str, Any] | None = field(repr=False)
    written_at: datetime | None = None
    gone: Literal["", "absent", "deleted", "destroyed"] = ""


class VaultSecret:
    """``path`` in the KV v2 engine at ``mount``. Thread-safe. ``uri`` begins each error."""

    def __init__(self, mount: str, path: str, *, uri: str) -> None:
        self._mount = mount
        self._path = path
        self._uri = uri
        self._floor = 0

    def read(self, calls: Calls) -> Held:
        """The latest version. Raises ConfigurationError for KV v1, and what ``calls`` raises."""
        for _ in range(1, TRIES):
            held = self._read(calls)
            if held.version >= self._floor:
                self._floor = max(self._floor, held.version)
                return held
            calls.deadline.pause(backoff(1, CATCHING_UP, CATCHING_UP))
        held = self._read(calls)
        self._floor = held.version  # older still: it was removed and made anew
        return held

    def write(self, calls: Calls, data: Mapping[str, Any], *, cas: int) -> int:
        """Make ``data`` the version after ``cas``; returns its number.

        Raises Moved where the caller has to look again, and what ``calls`` raises. ``data`` must differ
        from everybody else's: that is how our own write is known again where its answer was lost.
        """
        try:
            return self._write(calls, data, cas)
        except OutcomeUnknown:
            pass
        if self.read(calls).version > cas and self._read(calls, version=cas + 1).data == data:
            return cas + 1
        raise Moved

    def require_version_2(self, calls: Calls) -> None:
        """Raise ConfigurationError where the mount is known to be another engine, or KV v1."""
        path = f"sys/internal/ui/mounts/{self._mount}"
        try:
            mount = _object(calls.read(path, expecting=(400, 404)), "data")
        except (Refused, AccessDenied, TokenNotFound):
            return  # nobody is obliged to tell; the next write does
        options = mount.get("options") or {}
        if mount.get("type") not in ("kv", "generic", None) or options.get("version") != "2":
            raise self._not_version_2()

    def _read(self, calls: Calls, *, version: int | None = None) -> Held:
        params = {"version": str(version)} if version is not None else None
        try:
            body = calls.read(
                f"{self._mount}/data/{self._path}", params=params, expecting=(400, 404)
            )
        except Refused as refused:
            if refused.status == 400:
                raise self._refusal(refused) from None
            return _gone(refused.body)
        metadata, data = _object(body, "data", "metadata"), _object(body, "data").get("data")
        number = metadata.get("version")
        if not isinstance(number, int) or not isinstance(data, dict | None):
            raise self._not_version_2()
        return Held(number, data or {}, _time(metadata.get("created_time")))

    def _write(self, calls: Calls, data: Mapping[str, Any], cas: int) -> int:
        try:
            body = calls.write(
                f"{self._mount}/data/{self._path}",
                {"data": data, "options": {"cas": cas}},
                expecting=(400,),
            )
        except Refused as refused:
            if "check-and-set parameter did not match" in refused.said:
                raise Moved from None
            raise self._refusal(refused) from None
        except AccessDenied as error:
            if not cas:
                error.hint = "to make a secret, a policy needs create and update on that path"
            raise
        version = _object(body, "data").get("version")
        if not isinstance(version, int):
            raise self._not_version_2()
        self._floor = max(self._floor, version)
        return version

    def _refusal(self, refused: Refused) -> ProviderUnavailable | ConfigurationError:
        if "upgrading" in refused.said.lower():
            return ProviderUnavailable(
                f"{self._uri} — the mount is being upgraded to KV version 2", uri=self._uri
            )
        return ConfigurationError(f"{self._uri} — the server refuses the request: {refused.said}")

    def _not_version_2(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self._uri} — the mount {self._mount}/ is not KV version 2, which alone has check-and-set",
            hint=f"use another mount, or: bao kv enable-versioning {self._mount}/",
        )


def _gone(body: Mapping[str, Any]) -> Held:
    """What a 404 says: nothing where there never was a secret, else which version is gone."""
    metadata = _object(body, "data", "metadata")
    version = metadata.get("version")
    if not isinstance(version, int):
        return Held(0, None, gone="absent")
    return Held(version, None, gone="destroyed" if metadata.get("destroyed") is True else "deleted")


def _object(body: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The object at that place of an answer, {} where there is none."""
    for name in names:
        member = body.get(name)
        body = member if isinstance(member, dict) else {}
    return body


def _time(text: object) -> datetime | None:
    try:
        return parse_time(text)
    except InvalidToken:
        return None
