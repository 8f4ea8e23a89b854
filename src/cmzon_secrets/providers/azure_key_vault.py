"""``azurekeyvault://VAULT/secrets/NAME``: the three stages in versions of two Azure Key Vault secrets.

``VAULT`` is a name or a host, ``NAME`` 1 to 119 letters, digits and hyphens. Credentials and the other
options: ``clouds/azure_credentials.py``. How a token lies in a version: ``azure_versions.py``.

    CURRENT   the current version of NAME: the bare token, so that App Service references, External
              Secrets and the CSI driver can read it; its metadata in tags, its expiry as ``exp``
    PENDING   the current version of NAME-pending (without ``exp``: it shall raise no alarm)
    PREVIOUS  the version of NAME that CURRENT's tag ``cmzon-prev`` names, unless it is disabled

There is no compare-and-set (``cas`` is ``"detected"``). A write looks, puts a version, waits until no
rival can come with the same second any more, lists, and finds whether it won; a loser puts the winner
in force again and raises ConflictError. ``versions`` mends what a loser left that died before that.
The two secrets are two lines: a ``promote`` and a ``discard`` of the same PENDING at the same moment may both
succeed, and then it is CURRENT. Who promotes asks afterwards whether the token still works.

Data actions (``Microsoft.KeyVault/vaults/secrets/…``) that each verb needs; the files are
``permissions/azurekeyvault.*.json``:

    get                      getSecret on NAME
    versions, exists         getSecret, readMetadata on both (and setSecret, to mend)
    create, stage, promote   getSecret, readMetadata, setSecret on both
    discard                  the same, and update

None ever deletes or purges: a deleted name is blocked for up to 90 days.
Source: https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple, NoReturn, Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.azure import OPTIONS, Vault, name_of
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import ConflictError, InvalidURI, TokenNotFound, shielded
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.providers.azure_secrets import Secret
from cmzon_secrets.providers.azure_versions import EMPTY, EMPTY_TAGS, NONE, Line, tags_of
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["AzureKeyVault"]

SUFFIX = "-pending"
LONGEST_NAME = 127 - len(SUFFIX)
WRITES_TAKE = 3
"""How many times as long as a read a write may take: it waits until it has settled."""

_Rule = Callable[[Versions], Versions]


class AzureKeyVault(TokenStore):
    """A token in a vault. ``timeout``: seconds for a verb that reads, a third of what one may take that writes."""

    OPTIONS = OPTIONS
    cas = "detected"

    def __init__(
        self,
        vault: Vault,
        name: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        timeout: float = DEFAULT_DEADLINE,
    ) -> None:
        _check(name)
        self._vault = vault
        self._name = name
        self._clock = clock
        self._timeout = timeout

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``azurekeyvault://VAULT/secrets/NAME``."""
        return cls(Vault.from_location(location, "secrets"), name_of(location, "secrets"))

    @property
    def uri(self) -> str:
        """The URI with the options that are not the defaults."""
        return self._vault.uri("secrets", self._name)

    @property
    @shielded
    def identity(self) -> str:
        """``azure:HOST/NAME`` in lower case."""
        return f"azure:{self._vault.host}/{self._name.lower()}"

    @shielded
    def exists(self) -> bool:
        """Whether there is such a place, with a token or without."""
        return self._place().exists()

    @shielded
    def create(self) -> None:
        """Make an empty place where there is none: a version of NAME-pending that holds no token."""
        place = self._place(WRITES_TAKE)
        if place.exists():
            return
        if place.secret.deleted():
            raise self._missing(place)
        place.pending.put_on(NONE, EMPTY, EMPTY_TAGS)

    @shielded
    def get(self) -> Token:
        """CURRENT, in one round trip."""
        place = self._place(role="reader")
        current = place.secret.latest()
        token = current.token(self.uri) if current is not None else None
        if token is None:
            raise self._missing(place)
        return token

    @shielded
    def versions(self) -> Versions:
        """All stages; empty where there is no such place. Mends what a rival left that died."""
        return self._look(self._place()).versions

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token."""
        tags = tags_of(token)
        place = self._place(WRITES_TAKE)

        def rule(held: Versions) -> Versions:
            return staged(held, token, uri=self.uri)

        held = self._look_to_write(place)
        if rule(held.versions) is held.versions:
            return
        if not place.pending.put_on(_latest(held.pending), token.reveal(), tags):
            self._tell(place, rule)

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS, even if it is discarded at the same moment."""
        place = self._place(WRITES_TAKE)

        def rule(held: Versions) -> Versions:
            now = self._clock.now()  # the rule wants one; ours is the time of the version
            return promoted(held, token_id, replacing=replacing, now=now, uri=self.uri)

        held = self._look_to_write(place)
        token = rule(held.versions).current
        if token is held.versions.current or token is None:
            return
        below, expiry = _latest(held.line), token.expires_at
        tags = tags_of(token) | {"cmzon-prev": below, "cmzon-src": _latest(held.pending)}
        if not place.secret.put_on(below, token.reveal(), tags, expires_on=expiry):
            self._tell(place, rule)

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING: an empty version comes on top. Forget a PREVIOUS: its version is disabled."""
        place = self._place(WRITES_TAKE)
        while True:
            held = self._look(place, settled=True)
            after = discarded(held.versions, token_id, uri=self.uri)
            if after is held.versions:
                return
            if after.previous is not held.versions.previous and held.line is not None:
                place.secret.disable(held.line.latest.previous)
            if after.pending is held.versions.pending:
                return
            place.pending.put_on(_latest(held.pending), EMPTY, EMPTY_TAGS)  # and look who won

    def _place(self, times: int = 1, *, role: str = "rotator") -> _Place:
        timeout = self._timeout * times
        calls = self._vault.begin(self.uri, role=role, timeout=timeout, clock=self._clock)
        pending = Secret(calls, self._name + SUFFIX, may_be_disabled=True)
        return _Place(Secret(calls, self._name), pending)

    def _look_to_write(self, place: _Place) -> _Held:
        """What no rival can change any more. Raises TokenNotFound for a place that was deleted."""
        held = self._look(place, settled=True)
        if held.line is None and held.pending is None and place.secret.deleted():
            raise self._missing(place)
        return held

    def _look(self, place: _Place, *, settled: bool = False) -> _Held:
        """All stages as they were at one moment."""
        while True:
            pending = place.pending.line(settled=settled)
            line = place.secret.line(settled=settled)
            held = _Held(self._view(place, line, pending), line, pending)
            if held.versions.pending is None or place.pending.still(_latest(held.pending)):
                return held  # PENDING was there before and after CURRENT was read

    def _view(self, place: _Place, line: Line | None, pending: Line | None) -> Versions:
        waiting = None
        if pending is not None and not _spent(pending, line):
            waiting = pending.latest.token(f"{self.uri} (its {SUFFIX})")
        current = line.latest.token(self.uri) if line is not None else None
        if line is None or current is None:
            return Versions(pending=waiting)
        return Versions(current, waiting, self._previous(place, line), line.latest.written_at)

    def _previous(self, place: _Place, line: Line) -> Token | None:
        listed = line.find(line.latest.previous)
        if listed is None or not listed.enabled:
            return None
        whole = place.secret.version(listed.id)
        return whole.token(f"{self.uri} (version {listed.id})") if whole is not None else None

    def _tell(self, place: _Place, rule: _Rule) -> NoReturn:
        """The error of a loser: the rule says best what is in its way."""
        rule(self._look(place).versions)
        raise ConflictError(
            f"{self.uri} — another writer was first",
            uri=self.uri,
            hint="read the stages again and decide anew",
        )

    def _missing(self, place: _Place) -> TokenNotFound:
        vault = self._vault.host.partition(".")[0]
        recover = f"az keyvault secret recover --vault-name {vault} --name {self._name}"
        put = f"cmzon-secrets put --create {shlex.quote(self.uri)}"
        why, hint = {
            True: ("the secret was deleted, and can be recovered", recover),
            False: ("no token is stored there", put),
            None: ("no token is stored there", f"{put}; or, if it was deleted: {recover}"),
        }[place.secret.deleted()]
        return TokenNotFound(f"{self.uri} — {why}", uri=self.uri, hint=hint)


class _Place(NamedTuple):
    """Both secrets, within one verb."""

    secret: Secret
    pending: Secret

    def exists(self) -> bool:
        return self.secret.latest() is not None or self.pending.latest() is not None


class _Held(NamedTuple):
    """What a look found; a line is None where there is no such secret."""

    versions: Versions
    line: Line | None
    pending: Line | None


def _latest(line: Line | None) -> str:
    """The id of its current version, or ``none``."""
    return line.latest.id if line is not None else NONE


def _spent(pending: Line, line: Line | None) -> bool:
    """Whether what is pending was promoted: this version of it, or one of the same request."""
    made = (v.source for v in line if line.stands(v.id)) if line is not None else ()
    return any(pending.same(pending.latest.id, source) for source in made)


def _check(name: str) -> None:
    if len(name) > LONGEST_NAME or name.lower().endswith(SUFFIX):
        raise InvalidURI(
            f"azurekeyvault: URI — NAME has at most {LONGEST_NAME} characters and does not end in {SUFFIX},"
            " which is the name of the secret beside it"
        )
