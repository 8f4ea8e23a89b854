"""AWS: the calls of one verb under one deadline.

``aws_sessions.py`` says where credentials and region come from, ``aws_errors.py`` what a failure
means. Requests are signed, over https
(or to this machine), and never logged: the SDK's DEBUG records of our calls are dropped, for they
quote requests and answers whole.

Throttling is retried with jittered pauses until the deadline; a failed connection and an error of
the service twice. Credentials that turn out dead are looked for once more, because somebody may
have renewed them since.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws_errors import CLOCK, SOURCES, Failure
from cmzon_secrets.clouds.aws_sessions import OPTIONS, SESSIONS, Place, Session, quietly
from cmzon_secrets.deadline import DEFAULT_DEADLINE, Deadline, backoff
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    missing_extra,
    retold,
    shielded,
)
from cmzon_secrets.headers import date_in

__all__ = ["OPTIONS", "Caller", "Calls", "Place", "Refused", "Service"]

_BACKOFF = (0.1, 2.0)
"""Seconds of the first and of the longest wait before another try."""
_BAD_CLOCK = 240.0
"""Seconds; AWS refuses signatures that are 5 minutes off."""


class Refused(Exception):
    """An error code that the caller of ``Calls`` said it would interpret. Never leaves a verb."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Caller:
    """As whom AWS sees us."""

    account: str
    arn: str


class Service:
    """One AWS service at a place. ``name`` is the SDK's; ``uri`` begins each error.

    ``timeout``: seconds for all the calls of one verb. Raises ConfigurationError where the SDK is
    not installed, at the first ``begin``.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        *,
        uri: str,
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.place = place
        self.uri = uri
        self.clock = clock
        self.clock_skew: float | None = None
        """Seconds that AWS's clock is ahead of ours, after the last answer; None: not known yet."""
        self._timeout = timeout

    def begin(self) -> Calls:
        """The calls of one verb: its deadline begins now."""
        return self._calls(self.name)

    def whoami(self) -> Caller:
        """Account and ARN of the credentials in use. Needs no permission."""
        answer = self._calls("sts")("get_caller_identity")
        return Caller(str(answer.get("Account", "")), str(answer.get("Arn", "")))

    def credential_source(self) -> str:
        """Where the credentials come from, in words. Raises AccessDenied where there are none."""
        return self._calls("sts").credential_source()

    def note_date(self, metadata: dict[str, Any]) -> None:
        """Compare the ``Date`` of an answer with our clock."""
        theirs = date_in(metadata.get("HTTPHeaders", {}).get("date"))
        self.clock_skew = (theirs - self.clock.now()).total_seconds() if theirs else None

    def _calls(self, name: str) -> Calls:
        try:
            import botocore.session  # noqa: F401  # loaded before the clock starts: it takes a while
        except ImportError as error:
            raise missing_extra("aws", self.uri) from error
        return Calls(name, self, Deadline(self._timeout, uri=self.uri, clock=self.clock))


class Calls:
    """Calls under one deadline: ``calls("get_secret_value", SecretId=…)`` is the answer."""

    def __init__(self, name: str, service: Service, deadline: Deadline) -> None:
        self._name = name
        self._service = service
        self._deadline = deadline
        self._session: Session | None = None

    @shielded
    def __call__(
        self, operation: str, *, expecting: Collection[str] = frozenset(), **parameters: Any
    ) -> dict[str, Any]:
        """The answer to one operation of the SDK's client.

        Raises Refused for a code among ``expecting``, else ours by the table.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer: dict[str, Any] = self._deadline.call(
                    quietly, self._answer, operation, parameters
                )
            except CMzonSecretsError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever the SDK raises becomes one of ours
                failure = Failure(error)
            else:
                self._service.note_date(answer.get("ResponseMetadata", {}))
                return answer
            self._give_up_or_wait(failure, attempt, expecting)

    def credential_source(self) -> str:
        """As ``Service.credential_source``."""
        try:
            self._deadline.call(quietly, self._client)
        except CMzonSecretsError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            failure = Failure(error)
        else:
            return self._source()[0]
        raise self._ours(failure) from failure.cause

    def _answer(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self._client(), operation)(**parameters)
        return answer

    def _client(self) -> Any:
        try:
            self._session = SESSIONS.session(self._service.place)
            return self._session.client(self._name)
        except ConfigurationError as error:
            raise retold(error, f"{self._service.uri} — {error}") from None

    def _give_up_or_wait(self, failure: Failure, attempt: int, expecting: Collection[str]) -> None:
        self._service.note_date(failure.metadata)
        if failure.code in expecting:
            raise Refused(failure.code, failure.said) from failure.cause
        if failure.meaning.forget and self._session is not None:
            SESSIONS.forget(self._session)
        pause = 0.0 if failure.meaning.forget else backoff(attempt, *_BACKOFF, least=0.5)
        if attempt >= failure.meaning.attempts or pause >= self._deadline.remaining:
            raise self._ours(failure) from failure.cause
        self._deadline.pause(pause)

    def _ours(self, failure: Failure) -> CMzonSecretsError:
        skew = self._service.clock_skew or 0.0
        meaning = failure.meaning
        if meaning.forget and abs(skew) > _BAD_CLOCK:
            meaning = CLOCK
        words = {
            "code": failure.code,
            "said": failure.said or failure.code,
            "skew": f"{abs(skew):.0f}",
            "region": self._session.region if self._session else "",
            "role": self._service.place.role_arn or "the role of the profile",
            **dict(zip(("source", "renewal"), self._source(), strict=True)),
        }
        return meaning.error_at(self._service.uri, words)

    def _source(self) -> tuple[str, str]:
        source = self._session.source if self._session else None
        profile = self._service.place.profile
        named = f" --profile {profile}" if profile else ""
        where, renewal = SOURCES.get(source or "", (f"the source {source}", "renew them there"))
        return where + (f" (profile {profile})" if profile else ""), renewal.format(profile=named)
