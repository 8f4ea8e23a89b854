"""What `doctor` looks at, and in which order it tells: configuration, place, key, token, API.

Whatever cannot be asked is a finding, never the end of the examination.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from cmzon_secrets.cli.targets import Target
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    InvalidToken,
    ProviderUnavailable,
    SealBroken,
    TokenNotFound,
)
from cmzon_secrets.examinations.api import MANAGE, SENDING, examine_acceptance, examine_endpoint
from cmzon_secrets.examinations.tokens import examine_stages, examine_token
from cmzon_secrets.findings import Finding, Role, Severity
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.registry import (
    Examination,
    find_examination,
    find_key_examination,
    open_provider,
)
from cmzon_secrets.rotation import RotationPolicy
from cmzon_secrets.sealing import SealingKey
from cmzon_secrets.tokens import Token
from cmzon_secrets.typed import shown
from cmzon_secrets.uri import split

__all__ = ["Checkup"]

_ORDER = (
    "configuration",
    "reachability",
    "credentials",
    "permissions",
    "key",
    "tls",
    "clock",
    "token",
    "api",
)
_UNREADABLE: Mapping[type[CMzonSecretsError], str] = {
    TokenNotFound: "reachability.token",
    AccessDenied: "permissions.read",
    ProviderUnavailable: "reachability.read",
    SealBroken: "key.opens",
    InvalidToken: "token.value",
}


@dataclass(frozen=True)
class Checkup:
    """One examination: of whom, as whom and why, with the options of the command line."""

    target: Target
    role: Role
    why: str
    options: Mapping[str, Any]
    offline: bool = False
    _seen: dict[str, Token] = field(default_factory=dict)
    _leaving: ExitStack = field(default_factory=ExitStack)

    def findings(self) -> list[Finding]:
        """All findings, in the order in which one would mend them. What they needed is given back."""
        with self._leaving:
            return self._found()

    def _found(self) -> list[Finding]:
        found = [*self._configuration()]
        for number, uri in enumerate(self.target.uris, start=1):
            findings = self._of_place(replace(self.target, uri=uri, on_outage=False))
            found += (_linked(number, f) for f in findings) if self._chained else findings
        found += self._across_links() if self._chained else ()
        found += self._of_admin() if self.role == "rotator" else ()
        found += () if self.offline else self._of_api()
        return sorted(
            dict.fromkeys(found), key=lambda finding: _ORDER.index(finding.check.partition(".")[0])
        )

    @property
    def _chained(self) -> bool:
        return len(self.target.uris) > 1

    def _configuration(self) -> Iterator[Finding]:
        yield Finding("configuration.role", "ok", f"examined as a {self.role}", self.why)
        try:
            self.target.policy({})
        except CMzonSecretsError as error:
            evidence = f"account {self.target.account}"
            yield Finding("configuration.policy", "problem", str(error), evidence, error.hint)
        if self.offline:
            message = "not checked: the API, its clock, and this machine's address there"
            yield Finding("configuration.offline", "note", message, "--offline was given")

    def _of_place(self, place: Target) -> Iterator[Finding]:
        try:
            provider = place.open_provider()
        except CMzonSecretsError as error:
            yield Finding(
                "configuration.place", "problem", str(error), shown(place.place), error.hint
            )
            return
        with provider:
            if wrapped := self._wrapped(provider):
                yield from wrapped  # to read would use it up
                return
            token, read = _read(provider, self.role)
            found = _by_scheme(provider, self.role)
            if read.check != "reachability.read" or token is not None:
                found = chain(found, self._of_key(provider), self._of_stages(provider))
            else:
                found = _without_waiting(found)
            if token is None:  # who cannot read cannot have what he needs
                found = (f for f in found if f.check != "permissions.least")
            yield read
            # What stands in the way of reading stands in the way of much else; it is told once.
            yield from (f for f in found if read.message not in (f.message, f.evidence))
            if token is not None:
                yield from self._of_token(provider, token)

    def _of_key(self, provider: TokenProvider) -> Iterator[Finding]:
        if isinstance(provider, SealedFile):
            yield from _by_scheme(provider.key, self.role)

    def _wrapped(self, provider: TokenProvider) -> list[Finding]:
        """What is to be said instead of reading, of the place and of its key; see ``examinations``.

        Whatever reading will get for us is given back in the end.
        """
        subjects: list[TokenProvider | SealingKey] = [provider]
        subjects += [provider.key] if isinstance(provider, SealedFile) else []
        found: list[Finding] = []
        for subject in subjects:
            try:
                examination = _examination(subject)
            except CMzonSecretsError:  # told by _by_scheme
                continue
            if leave := getattr(examination, "leave", None):
                self._leaving.callback(_left, leave, subject)
            if instead := getattr(examination, "examine_wrapped", None):
                found += _as_far_as_it_gets(instead(subject), subject)
        return found

    def _of_stages(self, provider: TokenProvider) -> Iterator[Finding]:
        if self.role != "rotator" or not isinstance(provider, TokenStore):
            return
        if provider.cas == "detected":
            message = (
                "not checked: whether a rotation is stuck, for looking at the stages mends them"
            )
            yield Finding("token.stages", "note", message, "`cmzon-secrets status` tells")
            return
        try:
            versions = provider.versions()
        except CMzonSecretsError as error:
            yield Finding("permissions.stages", "problem", str(error), provider.uri, error.hint)
        else:
            yield from examine_stages(versions, SYSTEM_CLOCK.now(), grace=self._policy().grace)

    def _of_token(self, provider: TokenProvider, token: Token) -> Iterator[Finding]:
        first, now = not self._seen, SYSTEM_CLOCK.now()
        self._seen[provider.uri] = token
        policy = self._policy()
        yield from examine_token(
            token, now, rotate_every=policy.rotate_every, renewal_margin=policy.renewal_margin
        )
        if first and not self.offline:
            scopes = frozenset(self._policy().scopes)
            wanted = scopes | SENDING if scopes & SENDING else scopes
            yield from self._acceptance(provider, token, wanted, "token")

    def _of_admin(self) -> Iterator[Finding]:
        """The token that issues and revokes: there, accepted, and with the right to."""
        uri = self.target.admin_uri(self.options)
        if (self.options["issuer"] or self.target.issuer) != "cmzon":
            return
        if uri is None:
            hint = "give --admin URI, set CMZON_ADMIN_URI, or use --issuer manual"
            message = "no admin token: nobody can issue and revoke"
            yield Finding("configuration.admin", "problem", message, "none is configured", hint)
            return
        try:
            with open_provider(uri) as provider:
                if wrapped := self._wrapped(provider):
                    yield from wrapped
                    return
                token = provider.get()
                yield Finding("configuration.admin", "ok", "the admin token is there", provider.uri)
                if not self.offline:
                    wanted = frozenset({MANAGE})
                    yield from self._acceptance(provider, token, wanted, "admin token")
        except CMzonSecretsError as error:
            yield Finding("configuration.admin", "problem", str(error), shown(uri), error.hint)

    def _of_api(self) -> Iterator[Finding]:
        base_url = self.options["base_url"] or self.target.base_url
        try:
            yield from examine_endpoint(base_url, ca=self.options["ca"], now=SYSTEM_CLOCK.now())
        except CMzonSecretsError as error:
            yield _unusable(error)

    def _acceptance(
        self, provider: TokenProvider, token: Token, wanted: frozenset[str], what: str
    ) -> Iterator[Finding]:
        try:
            verifier = self.target.open_verifier(self.options, provider)
        except CMzonSecretsError as error:
            yield _unusable(error)
            return
        with closing(verifier) as issuer:
            yield from examine_acceptance(issuer, token, wanted=wanted, what=what)

    def _across_links(self) -> Iterator[Finding]:
        """Whether a chain has a token at all, and the same one everywhere."""
        if not self._seen:
            hint = "put a token into the first link"
            yield Finding(
                "reachability.chain", "problem", "no link gave a token", self.target.place, hint
            )
            return
        (first, token), *others = self._seen.items()
        yield Finding("reachability.chain", "ok", f"{first} answers", self.target.place)
        for uri, other in others:
            if other != token:
                message = f"{uri} holds another token than the one that answers"
                evidence = (
                    f"sha256:{other.fingerprint} there, sha256:{token.fingerprint} in {first}"
                )
                remedy = f"cmzon-secrets copy {shlex.quote(first)} {shlex.quote(uri)}"
                yield Finding("token.copy", "warning", message, evidence, remedy)

    def _policy(self) -> RotationPolicy:
        try:
            return self.target.policy({})
        except CMzonSecretsError:  # told by _configuration; the defaults will do here
            return RotationPolicy("doctor")


def _read(provider: TokenProvider, role: Role) -> tuple[Token | None, Finding]:
    """The token, or what stands in its way. The time it takes is measured."""
    started = SYSTEM_CLOCK.monotonic()
    try:
        token = provider.get()
    except CMzonSecretsError as error:
        check = _UNREADABLE.get(type(error), "configuration.place")
        # An empty store is where every rotation begins.
        severity: Severity = (
            "warning" if isinstance(error, TokenNotFound) and role == "rotator" else "problem"
        )
        return None, Finding(check, severity, str(error), type(error).__name__, error.hint)
    span = (SYSTEM_CLOCK.monotonic() - started) * 1000
    evidence = f"{provider.uri}: {token.id} in {span:.0f} ms"
    return token, Finding("reachability.read", "ok", "it gives the token", evidence)


def _unusable(error: CMzonSecretsError) -> Finding:
    """Address, CA or issuer of the API are no good; found by whoever comes first."""
    return Finding("configuration.api", "problem", str(error), type(error).__name__, error.hint)


def _examination(subject: TokenProvider | SealingKey) -> Examination | None:
    find = find_key_examination if isinstance(subject, SealingKey) else find_examination
    return find(split(subject.uri).scheme)


def _by_scheme(subject: TokenProvider | SealingKey, role: Role) -> Iterator[Finding]:
    """What the scheme's own examination finds."""

    def found() -> Iterator[Finding]:
        examination = _examination(subject)
        if examination is not None:
            yield from examination.examine(subject, role)

    return _as_far_as_it_gets(found(), subject)


def _as_far_as_it_gets(
    found: Iterator[Finding], subject: TokenProvider | SealingKey
) -> Iterator[Finding]:
    message = f"the examination of {split(subject.uri).scheme}: ended early"
    try:
        yield from found
    except CMzonSecretsError as error:
        if isinstance(subject, SealingKey):  # what cannot be asked cannot seal either
            yield Finding("key.usable", "problem", str(error), subject.uri, error.hint)
        else:
            yield Finding("configuration.examination", "warning", message, str(error), error.hint)
    except ImportError as error:
        evidence = f"{type(error).__name__}: {error.name} cannot be imported"
        yield Finding("configuration.examination", "warning", message, evidence)
    except Exception as error:  # noqa: BLE001  # somebody else's, by an entry point
        # Only the type: the text of an unforeseen error may quote anything.
        yield Finding("configuration.examination", "warning", message, type(error).__name__)


def _without_waiting(found: Iterator[Finding]) -> Iterator[Finding]:
    """Of a service that does not answer only its certificate: each further question would wait again."""
    first = next(found, None)
    if first is None:
        return
    yield first
    if not first.check.startswith("tls."):
        yield from found
        return
    message = "not asked: what it may there, and as whom"
    yield Finding("permissions.unasked", "note", message, "it does not answer")


def _left(leave: Callable[[Any], None], subject: object) -> None:
    with suppress(CMzonSecretsError):  # what was got ends by itself, too
        leave(subject)


def _linked(number: int, finding: Finding) -> Finding:
    """A finding about one link of a chain. That it is empty is for the whole chain to judge."""
    told = replace(finding, message=f"link {number}: {finding.message}")
    return replace(told, severity="note") if finding.check == "reachability.token" else told
