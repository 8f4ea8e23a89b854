"""``awssecretsmanager://NAME_OR_ARN?region=…&profile=…&role_arn=…&endpoint_url=…``: AWS Secrets Manager.

Stages are the service's own labels, AWSCURRENT, AWSPENDING and AWSPREVIOUS, so that native rotation,
ECS, EKS and AWS's caching clients work. ``aws_secret_values.py`` says what a version holds,
``clouds/aws_sessions.py`` where credentials and region come from.

- *stage*: the version is written under a label of ours, then gets AWSPENDING, which the service refuses
  while another version has it; written straight to AWSPENDING it would take that from a rival. The
  first version of a secret is AWSCURRENT at once: verify a token before staging it.
- *promote*: AWSCURRENT is moved from the version that was looked at: the one compare-and-set there is.
  AWSPREVIOUS follows by itself. A ``discard`` of the same token at that moment may succeed as well.

Permissions on the secret (``secretsmanager:``): ``get`` needs GetSecretValue; ``identity`` DescribeSecret;
``versions`` both; ``stage`` also PutSecretValue and UpdateSecretVersionStage; ``promote`` the latter,
and TagResource (refused: ``promoted_at`` is less exact); ``discard`` UpdateSecretVersionStage; ``create``
CreateSecret. With a KMS key of your own, kms:Decrypt to read and kms:GenerateDataKey to write.

Source: AWS Secrets Manager API Reference, PutSecretValue and UpdateSecretVersionStage.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws import OPTIONS, Place, Service
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import InvalidURI, shielded
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.providers.aws_secret_calls import SecretCalls
from cmzon_secrets.providers.aws_secret_values import (
    CURRENT,
    PENDING,
    PREVIOUS,
    STAGING,
    Labels,
    check_name,
    version_of,
)
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["AWSSecretsManager"]

_TRIES = 5
"""Looks at what others changed meanwhile, before a verb gives up."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a look found: the labels, and the tokens under them."""

    labels: Labels
    versions: Versions


class AWSSecretsManager(TokenStore):
    """A secret, by its name or ARN. ``timeout``: seconds for one verb."""

    OPTIONS = OPTIONS

    def __init__(
        self,
        name: str,
        place: Place = Place(),  # noqa: B008  # it cannot change
        *,
        clock: Clock = SYSTEM_CLOCK,
        timeout: float = DEFAULT_DEADLINE,
    ) -> None:
        check_name(name)
        options = {option: value for option, value in asdict(place).items() if value is not None}
        location = Location("awssecretsmanager", name, options, authority=True)
        place = Place.from_location(location)
        if name.startswith("arn:"):
            options.pop("region", None)  # the ARN says it
        self._name = name
        self._uri = str(location)
        self._clock = clock
        self.service = Service("secretsmanager", place, uri=self._uri, timeout=timeout, clock=clock)
        """As whom it calls, and how AWS's clock differs: for examinations."""

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``awssecretsmanager://NAME`` or ``//ARN``. Raises InvalidURI, ConfigurationError."""
        if not location.authority:
            raise InvalidURI(
                "awssecretsmanager: URI — // is missing before the name of the secret",
                hint="write awssecretsmanager://NAME",
            )
        return cls(location.name, Place.from_location(location))

    @property
    def uri(self) -> str:
        """The name or ARN, and the options, as they were given."""
        return self._uri

    @property
    @shielded
    def identity(self) -> str:
        """``aws:ACCOUNT:REGION:NAME``. Raises TokenNotFound where there is no secret."""
        return self._begin().labels().identity

    @shielded
    def exists(self) -> bool:
        """Whether there is such a secret, with a token or without."""
        return self._begin().labels_if_any() is not None

    @shielded
    def create(self) -> None:
        """Make an empty secret of this name. There already: no change."""
        self._begin().create()

    @shielded
    def get(self) -> Token:
        """CURRENT, in one round trip."""
        return self._begin().current()

    @shielded
    def versions(self) -> Versions:
        """All stages; empty where there is no secret."""
        calls = self._begin()
        labels = calls.labels_if_any()
        return Versions() if labels is None else _held(calls, labels).versions

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token. Raises TokenNotFound where there is no secret."""
        calls, (version, text) = self._begin(), version_of(token)
        for _ in range(_TRIES):
            held = _look(calls)
            if staged(held.versions, token, uri=self.uri) is held.versions:
                return
            if _attached(calls, held, version, text):
                return
        raise calls.conflict("others keep changing its stages")

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS."""
        calls = self._begin()
        for _ in range(_TRIES):
            held = _look(calls)
            now = self._clock.now()
            rule = promoted(held.versions, token_id, replacing=replacing, now=now, uri=self.uri)
            if rule is held.versions:
                return _complete(calls, held.labels)
            version, replaced = held.labels.stages[PENDING], held.labels.stages.get(CURRENT)
            if calls.move(CURRENT, to=version, off=replaced):
                calls.note_promotion(version, replaced)
                calls.move(PENDING, off=version)
                return None
        raise calls.conflict("others keep changing its stages")

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING or PREVIOUS: without its label the service drops the version."""
        calls = self._begin()
        labels = calls.labels_if_any()
        if labels is None:
            return
        held = _held(calls, labels)
        left = discarded(held.versions, token_id, uri=self.uri)
        if left is not held.versions and held.labels.is_replica:
            raise calls.replica(held.labels.primary_region)
        if left.pending is not held.versions.pending:
            calls.move(PENDING, off=held.labels.stages[PENDING])
        if left.previous is not held.versions.previous:
            calls.move(PREVIOUS, off=held.labels.stages[PREVIOUS])

    def _begin(self) -> SecretCalls:
        return SecretCalls(self._name, self.service, self._clock)


def _look(calls: SecretCalls) -> _Held:
    """What is held, before a change. Raises TokenNotFound, ReadOnlyProvider."""
    held = _held(calls, calls.labels())
    if held.labels.is_replica:
        raise calls.replica(held.labels.primary_region)
    return held


def _held(calls: SecretCalls, labels: Labels) -> _Held:
    """The tokens under ``labels``: a version never changes, so one DescribeSecret is one view."""
    while True:
        tokens = {stage: calls.token(version) for stage, version in labels.stages.items()}
        again = labels if None not in tokens.values() else calls.labels()
        if again.stages == labels.stages:  # what is missing has no value, and was not dropped
            break
        labels = again
    current, pending, previous = map(tokens.get, (CURRENT, PENDING, PREVIOUS))
    moment = labels.promoted_at if current is not None else None
    return _Held(labels, Versions(current, pending, previous, moment))


def _attached(calls: SecretCalls, held: _Held, version: str, text: str) -> bool:
    """Make this version PENDING; False: somebody else was first."""
    if PENDING in held.labels.stages:
        raise calls.conflict(
            "AWSPENDING is on a version without a value: a native rotation is under way"
        )
    written = version not in held.labels.known
    if written and CURRENT in calls.put(version, text):
        calls.note_promotion(version, None)
        calls.move(STAGING, off=version)
        return True
    moved = calls.move(PENDING, to=version, off=held.labels.holders.get(PENDING))
    if written or held.labels.holders.get(STAGING) == version:
        calls.move(STAGING, off=version)
    return moved


def _complete(calls: SecretCalls, labels: Labels) -> None:
    """Do what somebody who made CURRENT what it is did not come to."""
    version = labels.holders[CURRENT]
    left = [label for label in (PENDING, STAGING) if labels.holders.get(label) == version]
    if left and not labels.noted:
        calls.note_promotion(version, labels.holders.get(PREVIOUS))
    for label in left:
        calls.move(label, off=version)
