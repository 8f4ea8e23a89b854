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
How few requests that takes: ``azure_stages.py``.
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
from dataclasses import replace
from typing import ClassVar, Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.azure import OPTIONS, Vault, name_of
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import ConflictError, InvalidURI, TokenNotFound, shielded
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.providers.azure_stages import Held, Place
from cmzon_secrets.providers.azure_versions import tags_of, top_of
from cmzon_secrets.providers.last_look import LastLook
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["AzureKeyVault"]

SUFFIX = "-pending"
LONGEST_NAME = 127 - len(SUFFIX)
WRITES_TAKE = 3
"""How many times as long as a read a write may take: it waits until it has settled."""

_Rule = Callable[[Versions], Versions]
_Trusted = Callable[[Place, Held], bool]


class AzureKeyVault(TokenStore):
    """A token in a vault. ``timeout``: seconds for a verb that reads, a third of what one may take that writes."""

    OPTIONS = OPTIONS
    cas = "detected"
    WRITES_PER_SECOND: ClassVar[float | None] = 15.0
    """A vault bears 300 new versions in 10 seconds, from everybody; each verb makes one. The other
    half is for others, and for repeats."""

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
        self._last = LastLook[Held]()

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
        place.create()

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
        _, last = self._last.take() or (None, None)
        held = self._place().look(last)
        view = replace(held.versions)  # what is remembered must not hold it
        self._last.keep(view, held.bare())
        return view

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token."""
        tags_of(token)  # raises before any call

        def rule(held: Versions) -> Versions:
            return staged(held, token, uri=self.uri)

        def trusted(place: Place, last: Held) -> bool:
            return _writes(rule, last) and place.secret.still(top_of(last.line))

        self._change(rule, trusted)

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS, even if it is discarded at the same moment."""

        def rule(held: Versions) -> Versions:
            now = self._clock.now()  # the rule wants one; ours is the time of the version
            return promoted(held, token_id, replacing=replacing, now=now, uri=self.uri)

        def trusted(place: Place, last: Held) -> bool:
            return _writes(rule, last) and place.pending.still(top_of(last.pending))

        self._change(rule, trusted)

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING: an empty version comes on top. Forget a PREVIOUS: its version is disabled."""

        def rule(held: Versions) -> Versions:
            return discarded(held, token_id, uri=self.uri)

        def trusted(place: Place, last: Held) -> bool:
            # Its version is never on top again; and to be CURRENT again it has to be staged first.
            once = _only_previous(last.versions, token_id)
            return once and place.pending.still(top_of(last.pending))

        self._change(rule, trusted, forgetting=True)

    def close(self) -> None:
        """Forget the last look. Connections are those of the process."""
        self._last.forget()

    def _place(self, times: int = 1, *, role: str = "rotator") -> Place:
        timeout = self._timeout * times
        calls = self._vault.begin(self.uri, role=role, timeout=timeout, clock=self._clock)
        return Place(calls, self._name, self._name + SUFFIX, uri=self.uri)

    def _change(self, rule: _Rule, trusted: _Trusted, *, forgetting: bool = False) -> None:
        """Look, and write what the rule makes of it.

        The last look will do where it is ``trusted``: the secret that is not written is asked whether
        it is still the same. The other one need not be: a write says on what it was meant to come,
        and loses where that is not on top any more. ``forgetting``: a place that is missing holds
        nothing, and who loses tries again.
        """
        place = self._place(WRITES_TAKE)
        view, last = self._last.take() or (None, None)
        if last is not None and last.final and trusted(place, last):
            held = last
        else:
            held = place.look(last, settled=True)
            if held.absent and not forgetting and place.secret.deleted():
                raise self._missing(place)
        while (after := rule(held.versions)) is not held.versions:
            left = place.write(held, after)
            if left is not None:
                if view is not None:
                    self._last.keep(view, left.bare())
                return
            beaten = held is not last and not forgetting
            held = place.look(settled=True)
            if beaten and rule(held.versions) is not held.versions:
                raise self._beaten()

    def _beaten(self) -> ConflictError:
        """Of a loser with whose wish the rule finds nothing wrong."""
        return ConflictError(
            f"{self.uri} — another writer was first",
            uri=self.uri,
            hint="read the stages again and decide anew",
        )

    def _missing(self, place: Place) -> TokenNotFound:
        vault = self._vault.host.partition(".")[0]
        recover = f"az keyvault secret recover --vault-name {vault} --name {self._name}"
        put = f"cmzon-secrets put --create {shlex.quote(self.uri)}"
        why, hint = {
            True: ("the secret was deleted, and can be recovered", recover),
            False: ("no token is stored there", put),
            None: ("no token is stored there", f"{put}; or, if it was deleted: {recover}"),
        }[place.secret.deleted()]
        return TokenNotFound(f"{self.uri} — {why}", uri=self.uri, hint=hint)


def _writes(rule: _Rule, held: Held) -> bool:
    """Whether there is something to write, and nothing in its way."""
    try:
        return rule(held.versions) is not held.versions
    except ConflictError:
        return False


def _only_previous(held: Versions, token_id: str) -> bool:
    """Whether PREVIOUS alone has this id, and only what was staged can: it is one of the issuer's."""
    previous = held.previous
    others = [token for token in held if token is not previous and token.id == token_id]
    is_it = previous is not None and previous.id == token_id and previous.has_issuer_id
    return is_it and not others


def _check(name: str) -> None:
    if len(name) > LONGEST_NAME or name.lower().endswith(SUFFIX):
        raise InvalidURI(
            f"azurekeyvault: URI — NAME has at most {LONGEST_NAME} characters and does not end in {SUFFIX},"
            " which is the name of the secret beside it"
        )
