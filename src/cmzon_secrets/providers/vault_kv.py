"""``hashivault://MOUNT/PATH``: the three stages in a KV v2 secret of HashiCorp Vault or OpenBao.

URI: ``MOUNT`` is the first part of the path; one with slashes is told by ``mount=team/kv``, with which the
path then begins. ``layout=single`` (default) keeps all stages in that one secret; ``layout=split`` keeps
PENDING and PREVIOUS in a second one, ``PATH.rotation``, for consumers that copy every field of a secret, and
for readers who must not see them. Address, login and TLS: ``clouds/vault_place.py``. What the fields are:
``vault_documents.py``; how they change at once: ``vault_layouts.py``; every write is check-and-set.

Permissions (``permissions/hashivault*.hcl``): ``get`` needs ``read`` on ``MOUNT/data/PATH``; the four verbs
``read`` and ``update`` there, with ``split`` on ``MOUNT/data/PATH.rotation`` too; ``create()`` needs ``create``
besides. ``identity`` also asks ``sys/health``, which is open to everybody.

Source: https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v2
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds import vault
from cmzon_secrets.deadline import DEFAULT_DEADLINE, backoff
from cmzon_secrets.errors import (
    ConflictError,
    ProviderUnavailable,
    TokenNotFound,
    shielded,
)
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.providers.last_look import LastLook
from cmzon_secrets.providers.vault_documents import current_of
from cmzon_secrets.providers.vault_layouts import (
    Look,
    Secrets,
    layout_of,
    mount_and_path,
    naming,
)
from cmzon_secrets.providers.vault_secrets import BACKOFF, Held, Moved
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["VaultKV"]

Rule = Callable[[Versions, datetime], Versions]
"""What is held, and what time it is → what shall be held."""


class VaultKV(TokenStore):
    """The secret at a location. ``timeout``: seconds that a verb may take in all."""

    OPTIONS = vault.OPTIONS | {"layout", "mount"}

    def __init__(
        self,
        location: Location,
        *,
        clock: Clock = SYSTEM_CLOCK,
        timeout: float = DEFAULT_DEADLINE,
    ) -> None:
        self._location = location
        self._clock = clock
        self._timeout = timeout
        self.mount, self.path = mount_and_path(location)
        self.layout = layout_of(location)
        self._session = vault.session(vault.Place.from_location(location))
        self._secrets = Secrets(self.mount, self.path, self.layout, uri=self.uri)
        self._identity: str | None = None
        self._last = LastLook[Look]()

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``hashivault://MOUNT/PATH``."""
        return cls(location)

    @property
    def uri(self) -> str:
        """The URI as it was given; what it does not say comes from the environment."""
        return str(self._location)

    @property
    @shielded
    def identity(self) -> str:
        """``vault:``, the cluster's id (its address where it tells none), and namespace, mount and
        path as one: a namespace may be written either way."""
        if self._identity is None:
            calls = self.begin()
            place = "/".join(filter(None, (self.place.namespace, self.mount, self.path)))
            self._identity = f"vault:{self._cluster(calls) or self.place.address}:{place}"
        return self._identity

    @property
    def place(self) -> vault.Place:
        """The server, and as whom."""
        return self._session.place

    def begin(self) -> vault.Calls:
        """The calls of one verb, with its deadline."""
        return self._session.begin(uri=self.uri, timeout=self._timeout)

    @shielded
    def get(self) -> Token:
        """CURRENT, in one round trip."""
        calls = self.begin()
        held = self._existing(calls, self._secrets.main.read(calls))
        with naming(self.uri):
            current = current_of(held.data or {})
        if current is None:
            raise self._not_found("no token is stored there", "store one with: cmzon-secrets put")
        return current

    @shielded
    def versions(self) -> Versions:
        """All stages; empty where there is no secret."""
        calls = self.begin()
        seen = self._secrets.look(calls)
        if seen.main.gone == "absent":
            self._secrets.main.require_version_2(calls)
        view = seen.versions
        if seen.main.data is not None:
            self._last.keep(view, Look(seen, calls.server_date, self._clock.monotonic()))
        return view

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token. Makes the secret where there is none, which needs ``create``."""
        self._update(lambda held, _: staged(held, token, uri=self.uri))

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS."""
        self._update(
            lambda held, now: promoted(held, token_id, replacing=replacing, now=now, uri=self.uri)
        )

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING or PREVIOUS."""
        self._update(lambda held, _: discarded(held, token_id, uri=self.uri))

    @shielded
    def exists(self) -> bool:
        """Whether there is a secret of this name, with a token or without.

        A deleted one counts, for it can be restored; one whose latest version is destroyed cannot.
        """
        calls = self.begin()
        if self._secrets.main.read(calls).gone not in ("absent", "destroyed"):
            return True
        self._secrets.main.require_version_2(calls)
        return False

    @shielded
    def create(self) -> None:
        """Make an empty secret where there is none; what is there stays as it is.

        Needs ``create`` on the paths of the rotator's policy. Over a deleted secret it writes a new
        version; the old ones can still be restored.
        """
        self._secrets.create(self.begin())

    def close(self) -> None:
        """Forget the last look. Connections are those of the process."""
        self._last.forget()

    def _update(self, rule: Rule) -> None:
        """Apply ``rule`` to what is held, atomically; again where somebody else wrote meanwhile."""
        calls, lost = self.begin(), 0
        if self._applied_to_last_look(calls, rule):
            return
        try:
            while not self._applied(calls, rule):
                lost += 1
                calls.deadline.pause(backoff(lost, *BACKOFF))
        except ProviderUnavailable as error:
            if not lost or calls.deadline.remaining > BACKOFF[1]:
                raise
            raise ConflictError(
                f"{self.uri} — others wrote it {lost} times meanwhile",
                uri=self.uri,
                hint="find out who else writes there, and try again",
            ) from error

    def _applied_to_last_look(self, calls: vault.Calls, rule: Rule) -> bool:
        """Whether it is done, on what was found last; False where a look has to come first."""
        last = self._last.take()
        if last is None:
            return False
        before, look = last
        try:
            after = rule(before, look.now(self._clock))
            if after is before:
                return False
            self._secrets.write(calls, look.seen, before, after)
        except (ConflictError, Moved):
            return False
        return True

    def _applied(self, calls: vault.Calls, rule: Rule) -> bool:
        """Whether it is done; False where somebody else was first."""
        seen = self._secrets.look(calls)
        before = seen.versions
        after = rule(before, self._now(calls))
        if after is before:
            return True
        if seen.main.gone == "absent":
            self._secrets.create(calls)
            return self._applied(calls, rule)
        self._existing(calls, seen.main)
        try:
            self._secrets.write(calls, seen, before, after)
        except Moved:
            return False
        return True

    def _now(self, calls: vault.Calls) -> datetime:
        """Where our clock is slow, the server's: grace would end too early."""
        now = self._clock.now()
        return max(now, calls.server_date or now)

    def _existing(self, calls: vault.Calls, held: Held) -> Held:
        """``held``, where there is a secret. Raises TokenNotFound, or ConfigurationError for KV v1."""
        if held.data is not None:
            return held
        if held.gone == "absent":
            self._secrets.main.require_version_2(calls)
            raise self._not_found("there is no such secret", "make it: cmzon-secrets put --create")
        why = f"its latest version, {held.version}, is {held.gone}"
        if held.gone == "destroyed":
            raise self._not_found(why, "make it anew: cmzon-secrets put --create")
        version = shlex.join(["-mount", self.mount, "-versions", str(held.version), self.path])
        raise TokenNotFound(
            f"{self.uri} — {why}",
            uri=self.uri,
            hint=f"restore it: bao kv undelete {version}",
        )

    def _not_found(self, why: str, remedy: str) -> TokenNotFound:
        hint = f"{remedy} {shlex.quote(self.uri)}"
        if self.path.startswith("data/"):
            hint = f"leave out data/: it is the API's, not part of the path; or {hint}"
        return TokenNotFound(f"{self.uri} — {why}", uri=self.uri, hint=hint)

    def _cluster(self, before: vault.Calls) -> str | None:
        """The id of the cluster, where it tells one: a proxy may keep its health to itself."""
        nobody = vault.session(replace(self.place, namespace=None))  # no namespace has a health
        calls = nobody.begin(uri=self.uri, timeout=before.deadline.remaining)
        standbys_too = {"standbyok": "true", "perfstandbyok": "true"}
        try:
            health = calls.request(
                "GET", "sys/health", params=standbys_too, expecting=(400, 403), authenticated=False
            )
        except (vault.Refused, TokenNotFound):
            return None
        found = health.get("cluster_id")
        return found if isinstance(found, str) and found.isprintable() else None
