"""AWS: the calls of one verb under one deadline.

``aws_sessions.py`` says where credentials and region come from, ``aws_wire.py`` what may leave,
``aws_errors.py`` what a failure means. Nothing is logged: the SDK's DEBUG records of our calls are
dropped, for they quote requests and answers whole.

Throttling is retried with jittered pauses until the deadline; a failed connection and an error of
the service twice. Credentials that turn out dead are looked for once more, because somebody may
have renewed them since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from shlex import quote
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws_errors import CLOCK, SOURCES, Failure
from cmzon_secrets.clouds.aws_sessions import OPTIONS, SESSIONS, Place, Session, quietly
from cmzon_secrets.deadline import DEFAULT_DEADLINE, Deadline, backoff
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    missing_extra,
    retold,
    shielded,
)
from cmzon_secrets.headers import date_in

__all__ = ["OPTIONS", "Caller", "Calls", "Place", "Refused", "Service"]

_BACKOFF = (0.1, 2.0)
"""Seconds of the first and of the longest wait before another try."""
_READING = ("get_secret_value", "decrypt")
"""What a reader may; all else is for rotators."""
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

    @property
    def region(self) -> str:
        """The region that is asked. Raises ConfigurationError where none is configured."""
        return self.begin().region()

    @property
    def endpoint(self) -> str:
        """The address that is called, wherever it was configured.

        Raises ConfigurationError, AccessDenied without credentials.
        """
        return self.begin().endpoint()

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
        attempt, failure = 0, None
        while True:
            attempt += 1
            try:
                answer: dict[str, Any] = self._within_time(self._answer, operation, parameters)
            except ProviderUnavailable as late:
                if failure is None or failure.meaning.forget:
                    raise
                told = self._ours(failure)  # "throttled" says more than that the time was up then
                raise retold(told, f"{told}; then {late.message.rpartition(' — ')[2]}") from None
            except CMzonSecretsError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever the SDK raises becomes one of ours
                failure = Failure(error, operation, parameters)
            else:
                self._service.note_date(answer.get("ResponseMetadata", {}))
                return answer
            self._give_up_or_wait(failure, attempt, expecting)

    def credential_source(self) -> str:
        """As ``Service.credential_source``."""
        self._done(self._client)
        return self._source()[0]

    def region(self) -> str:
        """As ``Service.region``."""
        return str(self._done(self._opened).region)

    def endpoint(self) -> str:
        """As ``Service.endpoint``."""
        return str(self._done(self._client).meta.endpoint_url)

    def _done(self, function: Callable[[], Any]) -> Any:
        """What needs no request to the service itself, in time. Raises ours."""
        try:
            return self._within_time(function)
        except CMzonSecretsError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            failure = Failure(error, "", {})
        raise self._ours(failure) from failure.cause

    def _within_time(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._deadline.call(quietly, function, *args)
        except ConfigurationError as error:
            raise retold(error, f"{self._service.uri} — {error}") from None

    def _answer(self, operation: str, parameters: dict[str, Any]) -> Any:
        return getattr(self._client(), operation)(**parameters)

    def _client(self) -> Any:
        return self._opened().client(self._name)

    def _opened(self) -> Session:
        self._session = SESSIONS.session(self._service.place)
        return self._session

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
        region = self._session.region if self._session else ""
        words = {
            "code": failure.shown_code,
            "said": failure.said or failure.shown_code,
            "skew": f"{abs(skew):.0f}",
            "region": region,
            "region_option": f" --region {region}" if region else "",
            "role": self._service.place.role_arn or "the role of the profile",
            "key": quote(failure.key),
            **self._credential_words(),
            **self._policy_words(failure.operation),
        }
        return meaning.error_at(self._service.uri, words)

    def _credential_words(self) -> dict[str, str]:
        source, renewal = self._source()
        profile = self._service.place.profile_in_use
        first = f"the profile {profile} has none: " if profile else "export AWS_PROFILE, or "
        return {"source": source, "renewal": renewal, "profile": _option(profile), "first": first}

    def _policy_words(self, operation: str) -> dict[str, str]:
        role, uri = "reader" if operation in _READING else "rotator", self._service.uri
        wrong = ""
        if self._name == "secretsmanager":
            wrong = "; or the name is wrong: AWS says the same of a secret that is not there"
        return {"policy": f"`cmzon-secrets doctor --policy {role} {quote(uri)}`", "or_wrong": wrong}

    def _source(self) -> tuple[str, str]:
        source = self._session.source if self._session else None
        profile = self._service.place.profile_in_use if source != "env" else None
        where, renewal = SOURCES.get(source or "", (f"the source {source}", "renew them there"))
        told = where + (f" (profile {profile})" if profile else "")
        return told, renewal.format(profile=_option(profile))


def _option(profile: str | None) -> str:
    return f" --profile {quote(profile)}" if profile else ""
