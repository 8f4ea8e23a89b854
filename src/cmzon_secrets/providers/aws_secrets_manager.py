"""``awssecretsmanager://NAME_OR_ARN?region=…&profile=…&role_arn=…&endpoint_url=…``: AWS Secrets Manager.

Stages are the service's own labels, AWSCURRENT, AWSPENDING and AWSPREVIOUS, so that native rotation,
ECS, EKS and AWS's caching clients work. ``aws_secret_values.py`` says what a version holds,
``clouds/aws_sessions.py`` where credentials and region come from.

- *stage*: the version is written under a label of ours, then gets AWSPENDING, which the service refuses
  while another version has it; written straight to AWSPENDING it would take that from a rival. The
  first version of a secret is AWSCURRENT at once: verify a token before staging it.
- *promote*: AWSCURRENT is moved from the version that was looked at: the one compare-and-set there is.
  AWSPREVIOUS follows by itself. A ``discard`` of the same token at that moment, or since a look that
  was at most ``_RECENT`` ago, may succeed as well.

Permissions on the secret (``secretsmanager:``): ``get`` needs GetSecretValue; ``identity`` DescribeSecret;
``versions`` both; ``stage`` also PutSecretValue and UpdateSecretVersionStage; ``promote`` the latter,
and TagResource (refused: ``promoted_at`` is less exact); ``discard`` UpdateSecretVersionStage; ``create``
CreateSecret. With a KMS key of your own, kms:Decrypt to read and kms:GenerateDataKey to write.

Source: AWS Secrets Manager API Reference, PutSecretValue and UpdateSecretVersionStage.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import ClassVar, Self
from weakref import WeakValueDictionary

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws import OPTIONS, Place, Service
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import ConflictError, InvalidURI, shielded
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.providers import aws_native_rotation as native
from cmzon_secrets.providers.aws_secret_calls import SecretCalls
from cmzon_secrets.providers.aws_secret_stages import (
    TRIES,
    Held,
    attached,
    complete,
    forgotten,
    held_under,
    look,
    made_current,
)
from cmzon_secrets.providers.aws_secret_values import (
    PENDING,
    PREVIOUS,
    Labels,
    check_name,
    version_of,
)
from cmzon_secrets.providers.last_look import LastLook
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["AWSSecretsManager"]

_RECENT = 1.0
"""Seconds for which a promotion may rest on the look before it. A verb's own look can get older while
AWS throttles, so whoever rotates must bear that much anyway."""


class AWSSecretsManager(TokenStore):
    """A secret, by its name or ARN. ``timeout``: seconds for one verb."""

    OPTIONS = OPTIONS

    WRITES_PER_SECOND: ClassVar[float | None] = 20.0
    """PutSecretValue and UpdateSecretVersionStage share 50 a second in an account and region. Of
    these ``stage`` needs 2, ``promote`` 2, ``discard`` 1: 20 verbs are 40 at most. The rest is for
    others, and for repeats."""

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
        self._identity: str | None = None
        self._announced: str | None = None
        self._values: WeakValueDictionary[str, Token] = WeakValueDictionary()
        """Version → its token, for as long as somebody holds that token."""
        self._last = LastLook[tuple[Labels, float]]()

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
        """``aws:ACCOUNT:REGION:NAME``, as of the last look. Raises TokenNotFound where there is no secret."""
        return self._identity or self._begin().labels().identity

    @property
    def rotating_natively(self) -> str | None:
        """The version that a native rotation has announced and not written yet, as of ``versions()``."""
        return self._announced

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
        calls, begun = self._begin(), self._clock.monotonic()
        labels = calls.labels_if_any()
        if labels is None:
            self._identity = self._announced = None
            return Versions()
        held = held_under(calls, labels)
        self._identity, self._announced = held.labels.identity, held.announced
        self._last.keep(held.versions, (held.labels, begun))
        return held.versions

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token. Raises TokenNotFound where there is no secret."""
        calls, (version, text) = self._begin(), version_of(token)
        for _ in range(TRIES):
            held = look(calls)
            if staged(held.versions, token, uri=self.uri) is held.versions:
                return
            if held.announced is not None:
                raise calls.conflict(
                    "AWSPENDING is on a version without a value: a native rotation is under way"
                )
            if attached(calls, held.labels, version, token, text):
                return
        raise calls.conflict("others keep changing its stages")

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS."""
        calls, recent = self._begin(), self._recent()
        if recent is not None:
            with suppress(ConflictError):  # it may be over
                if self._promoted(calls, recent, token_id, replacing):
                    return
        for _ in range(TRIES):
            held = look(calls)
            current = held.versions.current
            if current is not None and current.id == token_id:
                complete(calls, held.labels)
                return
            if self._promoted(calls, held, token_id, replacing):
                return
        raise calls.conflict("others keep changing its stages")

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING or PREVIOUS: without its label the service drops the version."""
        calls = self._begin()
        labels = calls.labels_if_any()
        if labels is None:
            return
        held = held_under(calls, labels)
        left = discarded(held.versions, token_id, uri=self.uri)
        if left is not held.versions and held.labels.is_replica:
            raise calls.replica(held.labels.primary_region)
        if left.pending is not held.versions.pending:
            forgotten(calls, held.labels, PENDING)
        if left.previous is not held.versions.previous:
            forgotten(calls, held.labels, PREVIOUS)

    @shielded
    def stage_as(self, version_id: str, token: Token, *, rotation_token: str | None = None) -> None:
        """PENDING := token, as this version: the step createSecret of a native rotation.

        ``rotation_token`` is that of the event, where it has one. The same again: no change, also
        where the version has become CURRENT. The service need not know the version yet.

        Raises ConflictError where that version has another value, AWSPENDING is on another
        version, or CURRENT has this token; TokenNotFound where there is no secret.
        """
        native.stage_as(
            self._begin(), version_id, token, rotation_token=rotation_token, uri=self.uri
        )

    @shielded
    def pending_as(self, version_id: str) -> Token | None:
        """The token that is PENDING as this version; None: it has none yet, or is not PENDING."""
        return native.pending_as(self._begin(), version_id)

    @shielded
    def is_current(self, version_id: str) -> bool:
        """Whether this version is CURRENT."""
        return native.is_current(self._begin(), version_id)

    def close(self) -> None:
        """Forget what was found. Connections are those of the process."""
        self._last.forget()
        self._values.clear()

    def _promoted(
        self, calls: SecretCalls, held: Held, token_id: str, replacing: str | None
    ) -> bool:
        now = self._clock.now()
        rule = promoted(held.versions, token_id, replacing=replacing, now=now, uri=self.uri)
        return rule is not held.versions and made_current(calls, held.labels)

    def _recent(self) -> Held | None:
        """What was found a moment ago, where there is no need to look again."""
        last = self._last.take()
        if last is None:
            return None
        view, (labels, begun) = last
        old = self._clock.monotonic() - begun > _RECENT
        return None if old or labels.is_replica else Held(labels, view)

    def _begin(self) -> SecretCalls:
        return SecretCalls(self._name, self.service, self._clock, self._values)
