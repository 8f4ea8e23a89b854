"""Hands messages over to the API once per key, however often a queue asks for it: one per process.

It knows no queue. A message is sent, it never will be, or it has to come again later; what became of
it stands in the ledger, the pace is shared with all machines, and both live in one Redis.

What an error means for a message is the outbox's own table (``client.outbox.verdicts``).
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cmzon_secrets.client import Client, RateLimits, SendResult
from cmzon_secrets.client.limits import MESSAGES_PER_DAY
from cmzon_secrets.client.messages import check_key, check_message
from cmzon_secrets.client.outbox.model import Leased, State
from cmzon_secrets.client.outbox.verdicts import MAX_TRIES, Verdict, judge
from cmzon_secrets.durations import format_duration, parse_duration
from cmzon_secrets.errors import (
    APIError,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    RequestRejected,
    TransportError,
    shielded,
)
from cmzon_secrets.events import Subscriber
from cmzon_secrets.runtimes.message_ledger import Entry, MessageLedger, fingerprint

__all__ = ["Delivered", "Later", "MessageSender", "Settings"]

DEADLINE = timedelta(seconds=30)
"""For one message, with its turn, its token and its retries."""
LONGEST_DEADLINE = timedelta(minutes=2)
"""A queue takes whoever is at work for much longer for dead."""

PROCESSES = 8
"""Of all workers together: what each may send by itself while Redis is away."""

MARGIN = 5.0
"""Seconds after a call's deadline in which it has ended for sure."""

PAUSE = 15.0
"""Seconds until a message may come again where nothing says how long to wait."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sender is configured by. ``redis_url`` may hold a password.

    Who only reads the ledger needs no ``token_uri``.
    """

    token_uri: str
    redis_url: str = field(repr=False)
    account: str
    trusted: bool = False
    deadline: timedelta = DEADLINE
    per_day: int = MESSAGES_PER_DAY
    processes: int = PROCESSES
    ca: str | None = None
    redis_ca: str | None = None

    @classmethod
    def found(cls, environ: Mapping[str, str] = os.environ, *, redis_url: str = "") -> Settings:
        """What the environment says; ``redis_url`` where it names no Redis.

        Raises ConfigurationError, naming the variable.
        """
        return cls(
            token_uri=environ.get("CMZON_TOKEN_URI", ""),
            redis_url=environ.get("CMZON_LIMITS_URL")
            or redis_url
            or _needed(environ, "CMZON_LIMITS_URL", "the Redis that all workers share"),
            account=_needed(environ, "CMZON_ACCOUNT", "the account whose limits are shared"),
            trusted=_choice(environ, "CMZON_IDEMPOTENCY", {"send": False, "trust": True}),
            deadline=_deadline(environ, "CMZON_SEND_DEADLINE"),
            per_day=_count(environ, "CMZON_PER_DAY", MESSAGES_PER_DAY),
            processes=_count(environ, "CMZON_PROCESSES", PROCESSES),
            ca=environ.get("CMZON_CA") or None,
            redis_ca=environ.get("CMZON_LIMITS_CA") or None,
        )

    def ledger(self) -> MessageLedger:
        """The account's ledger. Raises ConfigurationError."""
        return MessageLedger(self.redis_url, account=self.account, ca=self.redis_ca)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The API took it, now or before. The ids are the API's, where it told them."""

    key: str
    message_id: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Later:
    """It was not sent and nothing is wrong with it: it may come again after so many seconds."""

    seconds: float
    reason: str


_ELSEWHERE = Later(1.0, "another worker is sending it")
"""Most are done in a moment; one that died is found out when its time is over."""


class _Elsewhere(Exception):
    """Another worker was first. It passes through the client, which must not send."""


class MessageSender:
    """One client and one ledger. Thread-safe; not for a forked child: make it there.

    Raises ConfigurationError, InvalidURI, and what opening the token's place raises.
    """

    def __init__(self, settings: Settings, *, subscriber: Subscriber | None = None) -> None:
        if not settings.token_uri:
            raise ConfigurationError("CMZON_TOKEN_URI — it is not set: where the token lives")
        self._settings = settings
        self._lease = settings.deadline.total_seconds() + MARGIN
        self._ledger = settings.ledger()
        self._limits = RateLimits.shared(
            settings.redis_url,
            account=settings.account,
            per_day=settings.per_day,
            processes=settings.processes,
            ca=settings.redis_ca,
            subscriber=subscriber,
        )
        self._client = Client(
            settings.token_uri,
            limits=self._limits,
            deadline=settings.deadline,
            idempotency="trust" if settings.trusted else "send",
            ca=settings.ca,
            subscriber=subscriber,
        )

    @shielded
    def deliver(self, key: str, to: str, message: str, priority: int = 0) -> Delivered | Later:
        """Send it, unless it was; or when it may come again.

        Raises RequestRejected for one that is dead or cannot be sent, and for a key that was used
        for another; TransportError for one that may have been sent and nobody knows.
        """
        check_key(key)
        check_message(to, message)
        try:
            (known,) = self._ledger.entries(key)
        except ProviderUnavailable as error:
            return Later(PAUSE, str(error))
        mark = fingerprint(key, to, message)
        if known is not None and known.fingerprint not in (None, mark):
            raise RequestRejected(
                f"message {key} — this key was used for another number or text",
                hint="a new message needs a new key",
            )
        if known is not None and not self._may_go(known):
            return _as_it_stands(known)
        tries = known.tries if known is not None else 0
        return self._send(Leased(0, key, to, message, priority, tries), mark)

    def close(self) -> None:
        """Close the connections, and what the client opened."""
        self._client.close()
        self._limits.close()
        self._ledger.close()

    def _may_go(self, known: Entry) -> bool:
        return known.state is State.PENDING or (
            known.state is State.UNKNOWN and self._settings.trusted
        )

    def _send(self, message: Leased, mark: str) -> Delivered | Later:
        owner = uuid.uuid4().hex
        started = False

        def departing() -> None:
            nonlocal started
            started = self._ledger.depart(
                message.key, owner, mark, within=self._lease, trusted=self._settings.trusted
            )
            if not started:
                raise _Elsewhere

        try:
            result = self._client.send_queued(message, departing)
        except _Elsewhere:
            return _ELSEWHERE
        except Exception as error:  # noqa: BLE001  # judged, entered, and told
            return self._not_sent(message, owner, mark, error, started=started)
        return self._sent(message, owner, result)

    def _not_sent(
        self, message: Leased, owner: str, mark: str, error: Exception, *, started: bool
    ) -> Later:
        trusted = self._settings.trusted
        verdict = judge(error, message, started=started, trusted=trusted, max_tries=MAX_TRIES)
        state = State.UNKNOWN if _may_have_been_sent(error, started) else verdict.state
        state = self._enter(message.key, owner, state, reason=verdict.reason, fingerprint=mark)
        if verdict.state is State.PENDING:
            return Later(_seconds(verdict), verdict.reason or "")
        raise _over(message.key, state, verdict.reason)

    def _sent(self, message: Leased, owner: str, result: SendResult) -> Delivered:
        facts = {"message_id": result.id, "request_id": result.request_id}
        self._enter(message.key, owner, State.SENT, **facts, reason=None)
        return Delivered(message.key, **facts)

    def _enter(self, key: str, owner: str, state: State, **facts: str | None) -> State:
        """The state it is in now. Where Redis is away the entry stays ``sending`` and says too little."""
        try:
            return self._ledger.settle(key, owner, state, **facts)
        except ProviderUnavailable as error:
            _LOG.warning("message %s is %s, which could not be entered: %s", key, state, error)
            return state


def _as_it_stands(known: Entry) -> Delivered | Later:
    if known.state is State.SENT:
        return Delivered(known.key, known.message_id, known.request_id)
    if known.state is State.SENDING:
        return _ELSEWHERE
    raise _over(known.key, known.state, known.reason)


def _may_have_been_sent(error: Exception, started: bool) -> bool:
    if isinstance(error, CMzonSecretsError):
        return isinstance(error, APIError) and error.may_have_been_sent
    return getattr(error, "may_have_been_sent", started)  # a defect, or a time limit


def _over(key: str, state: State, reason: str | None) -> APIError:
    if state is State.UNKNOWN:
        return TransportError(
            f"message {key} — nobody knows whether it was sent: {reason}",
            hint="look it up at CMzon; where it was not sent, forget the key and queue it again",
        )
    return RequestRejected(f"message {key} — it will not be sent: {reason}")


def _seconds(verdict: Verdict) -> float:
    if verdict.resumes_at is not None:
        return max(0.0, (verdict.resumes_at - datetime.now(UTC)).total_seconds())
    return verdict.wait or PAUSE


def _needed(environ: Mapping[str, str], name: str, what: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigurationError(f"{name} — it is not set: {what}")
    return value


def _choice(environ: Mapping[str, str], name: str, valid: Mapping[str, bool]) -> bool:
    value = environ.get(name) or next(iter(valid))
    if value not in valid:
        raise ConfigurationError(f"{name} — unknown value", hint=f"valid: {', '.join(valid)}")
    return valid[value]


def _deadline(environ: Mapping[str, str], name: str) -> timedelta:
    try:
        deadline = parse_duration(environ[name]) if environ.get(name) else DEADLINE
    except ValueError as error:
        raise ConfigurationError(f"{name} — it must be {error}") from None
    if deadline > LONGEST_DEADLINE:
        raise ConfigurationError(f"{name} — at most {format_duration(LONGEST_DEADLINE)}")
    return deadline


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise ConfigurationError(f"{name} — it must be a whole number above zero")
    return int(text)
