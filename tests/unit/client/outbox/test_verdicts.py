"""What came of a call, and what that means for its message and for the run."""

from datetime import UTC, datetime

import pytest

from cmzon_secrets.client.outbox.model import Leased, State
from cmzon_secrets.client.outbox.verdicts import LONGEST_WAIT, Verdict, judge
from cmzon_secrets.errors import (
    AccessDenied,
    APIError,
    AuthenticationError,
    ConfigurationError,
    DailyLimitReached,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    SealBroken,
    ServerError,
    TokenNotFound,
    TransportError,
)

RESETS_AT = datetime(2030, 1, 2, tzinfo=UTC)


def of(kind, **facts):
    error = kind("why")
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def judged(error, *, tries=0, started=True, trusted=False):
    message = Leased(1, "key", "+12025550101", "Hello", 0, tries)
    return judge(error, message, started=started, trusted=trusted, max_tries=5)


PENDING, UNKNOWN, DEAD = State.PENDING, State.UNKNOWN, State.DEAD
UNSURE = {"may_have_been_sent": True}

TABLE = [
    (of(RequestRejected), Verdict(DEAD, "why")),
    (of(RateLimited, retry_after=7.0), Verdict(PENDING, "why", wait=7.0)),
    (of(RateLimited), Verdict(PENDING, "why", wait=1.0)),
    (of(RateLimited, retry_after=86_400.0), Verdict(PENDING, "why", wait=LONGEST_WAIT)),
    (of(ServerError), Verdict(PENDING, "why", wait=2.0, outage=True)),
    (of(ServerError, **UNSURE), Verdict(UNKNOWN, "why")),
    (of(TransportError), Verdict(UNKNOWN, "why")),
    (of(TransportError, may_have_been_sent=False), Verdict(PENDING, "why", outage=True)),
    (of(ProviderUnavailable), Verdict(PENDING, "why", outage=True)),
    (of(DailyLimitReached, resets_at=RESETS_AT), Verdict(PENDING, "why", resumes_at=RESETS_AT)),
    *(
        (of(kind), Verdict(PENDING, "why", ends=True))
        for kind in (AuthenticationError, PermissionDenied, TokenNotFound, AccessDenied)
    ),
    *((of(kind), Verdict(PENDING, "why", ends=True)) for kind in (SealBroken, ConfigurationError)),
    (of(RateLimited, **UNSURE), Verdict(UNKNOWN, "why")),
    (of(DailyLimitReached, **UNSURE), Verdict(UNKNOWN, "why")),
]


@pytest.mark.parametrize(("error", "verdict"), TABLE)
def test_the_table(error, verdict):
    assert judged(error) == verdict


@pytest.mark.parametrize("error", [of(TransportError), of(ServerError, **UNSURE)])
def test_where_keys_are_honoured_what_is_unknown_is_sent_again_and_never_called_dead(error):
    assert judged(error, trusted=True) == Verdict(PENDING, "why", wait=2.0, outage=True)
    assert judged(error, trusted=True, tries=4).state is UNKNOWN


def test_the_wait_doubles_up_to_a_quarter_of_an_hour():
    waits = [judged(of(ServerError), tries=tries).wait for tries in range(4)]
    assert waits == [2, 4, 8, 16]
    message = Leased(1, "key", "+12025550101", "Hello", 0, 1000)
    longest = judge(of(ServerError), message, started=True, trusted=False, max_tries=10**6)
    assert longest.wait == LONGEST_WAIT


def test_after_the_last_try_it_is_dead():
    assert judged(of(ServerError), tries=3).state is PENDING
    assert judged(of(ServerError), tries=4).state is DEAD


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("a number, a text")])
def test_what_ended_in_its_midst_is_unknown_and_ends_the_run(error):
    name = type(error).__name__
    assert judged(error) == Verdict(UNKNOWN, name, ends=True)
    assert judged(error, started=False) == Verdict(PENDING, name, ends=True)
    assert judged(error, trusted=True) == Verdict(PENDING, name, ends=True)


def test_what_the_client_says_of_how_far_it_was_is_believed():
    assert judged(of(KeyboardInterrupt, may_have_been_sent=False)).state is PENDING
    assert judged(of(KeyboardInterrupt, may_have_been_sent=True), started=False).state is UNKNOWN


def test_no_error_of_the_tree_lets_a_message_vanish():
    def kinds(kind):
        return [kind, *(k for child in kind.__subclasses__() for k in kinds(child))]

    for kind in kinds(APIError):
        assert judged(of(kind, may_have_been_sent=False)).state in {PENDING, DEAD}
        assert judged(of(kind, may_have_been_sent=True)).state is UNKNOWN
