"""Whether and when a request is repeated: the table, the properties that always hold, the budget."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.answers import MAX_RETRY_AFTER, Answer
from cmzon_secrets.client.retry import (
    FIRST_BACKOFF,
    JITTER_ON_REQUEST,
    LONGEST_BACKOFF,
    Attempt,
    RetryBudget,
    Terms,
    Wait,
    decide,
    is_refusal,
    is_unknown,
)
from cmzon_secrets.errors import RequestRejected, TransportError
from cmzon_secrets.headers import Headers

OURS = Terms(max_attempts=5, deadline=60.0, repeatable=False)
TRUSTED = Terms(max_attempts=5, deadline=60.0, repeatable=True)


def said(status: int, *, retry_after: object = None, header: str | None = None) -> Answer:
    """An answer in the vendor's own words."""
    error = {"code": status, "message": "no"}
    if retry_after is not None:
        error["retry_after"] = retry_after  # type: ignore[assignment]
    headers = {} if header is None else {"Retry-After": header}
    return Answer(status, Headers(headers), json.dumps({"error": error}).encode())


def page(status: int, **headers: str) -> Answer:
    """An answer of something between the API and us."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, Headers(fields), b"<html><h1>nginx</h1></html>")


def lost(*, sent: bool) -> TransportError:
    error = TransportError("no answer")
    error.may_have_been_sent = sent
    return error


ALWAYS, DOUBT, NEVER = "always", "in doubt", "never"


@pytest.mark.parametrize(
    ("outcome", "repeated"),
    [
        (said(429), ALWAYS),
        (page(429), ALWAYS),
        (said(500), ALWAYS),
        (said(502), ALWAYS),
        (said(503), ALWAYS),
        (page(503, Retry_After="1"), ALWAYS),
        (said(408), ALWAYS),
        (page(425), ALWAYS),
        (lost(sent=False), ALWAYS),
        (page(500), DOUBT),
        (page(502), DOUBT),
        (page(502, Retry_After="1"), DOUBT),
        (page(503), DOUBT),
        (page(503, Retry_After="soon"), DOUBT),
        (page(520), DOUBT),
        (said(504), DOUBT),
        (page(504), DOUBT),
        (lost(sent=True), DOUBT),
        *((said(status), NEVER) for status in (301, 302, 400, 401, 403, 404, 409, 413, 422)),
        *((page(status), NEVER) for status in (302, 400, 401, 403, 404, 418)),
    ],
)
def test_what_is_repeated(outcome: Answer | TransportError, repeated: str) -> None:
    attempt = Attempt(1, outcome, 0.0)
    assert isinstance(decide(attempt, OURS, chance=0.5), Wait) is (repeated == ALWAYS)
    assert isinstance(decide(attempt, TRUSTED, chance=0.5), Wait) is (repeated != NEVER)
    assert is_unknown(outcome, keyed=True) is (repeated == DOUBT)


def test_a_certificate_that_is_not_trusted_is_not_asked_for_again() -> None:
    untrusted = lost(sent=False)
    untrusted.retryable = False
    assert decide(Attempt(1, untrusted, 0.0), TRUSTED, chance=0.5) is None


@pytest.mark.parametrize(
    ("method", "keyed", "trusted", "repeatable"),
    [
        ("POST", True, False, False),
        ("POST", True, True, True),
        ("POST", False, True, False),
        ("PATCH", True, False, False),
        *((method, False, False, True) for method in ("GET", "head", "PUT", "DELETE", "OPTIONS")),
    ],
)
def test_what_may_be_repeated_blindly(
    method: str, keyed: bool, trusted: bool, repeatable: bool
) -> None:
    terms = Terms.of(method, max_attempts=5, deadline=60.0, keyed=keyed, trusted=trusted)
    assert terms.repeatable is repeatable


@pytest.mark.parametrize(("status", "unknown"), [(500, True), (502, True), (503, False)])
def test_without_a_key_an_error_of_the_api_itself_proves_nothing(
    status: int, unknown: bool
) -> None:
    keyless = Terms.of("POST", max_attempts=5, deadline=60.0, keyed=False, trusted=True)
    verdict = decide(Attempt(1, said(status), 0.0), keyless, chance=0.5)
    assert (verdict is None) is unknown
    assert is_unknown(said(status), keyed=False) is unknown
    assert not is_unknown(said(status), keyed=True)


def test_the_longer_of_the_bodys_wait_and_the_headers_is_kept_with_a_little_jitter() -> None:
    attempt = Attempt(1, said(429, retry_after=5, header="7"), 0.0)
    assert decide(attempt, OURS, chance=0.0) == Wait(7.0, everybody=True)
    assert decide(attempt, OURS, chance=1.0) == Wait(7.0 * (1 + JITTER_ON_REQUEST), everybody=True)


def test_without_a_word_the_wait_is_drawn_from_a_range_that_doubles_up_to_a_bound() -> None:
    waits = [decide(Attempt(n, said(503), 0.0), Terms(99, 999.0, False), chance=1.0).seconds
             for n in range(1, 9)]  # fmt: skip
    assert waits == [FIRST_BACKOFF, 0.5, 1.0, 2.0, 4.0, *[LONGEST_BACKOFF] * 3]
    assert decide(Attempt(3, said(503), 0.0), OURS, chance=0.0) == Wait(0.0)


statuses = st.sampled_from((408, 425, 429, 429, 500, 502, 503, 503)) | st.integers(300, 599)
outcomes = st.one_of(
    st.builds(
        said,
        statuses,
        retry_after=st.none()
        | st.integers(0, 100)
        | st.integers(-(10**30), 10**30)
        | st.floats()
        | st.text(max_size=8)
        | st.booleans()
        | st.lists(st.integers(), max_size=2),
        header=st.none() | st.from_regex(r"[ -~]{0,12}", fullmatch=True),
    ),
    st.builds(page, statuses),
    st.builds(lost, sent=st.booleans()),
)
attempts = st.builds(
    Attempt,
    number=st.integers(1, 4) | st.integers(1, 10**6),
    outcome=outcomes,
    elapsed=st.floats(0, 100) | st.floats(0, 1e6),
)
terms = st.builds(
    Terms,
    max_attempts=st.integers(3, 20) | st.just(1),
    deadline=st.floats(0.001, 100) | st.floats(0.001, 1e6),
    repeatable=st.booleans(),
)
chances = st.floats(0, 1)
often = settings(max_examples=300)


@often
@given(attempts, terms, chances)
def test_it_never_waits_past_the_deadline_nor_makes_more_attempts_than_allowed(
    attempt: Attempt, terms: Terms, chance: float
) -> None:
    verdict = decide(attempt, terms, chance=chance)
    if isinstance(verdict, Wait):
        assert 0 <= attempt.elapsed + verdict.seconds < terms.deadline
        assert attempt.number < terms.max_attempts


repeated = st.sampled_from((408, 425, 429, 500, 502, 503))
patient = Terms(max_attempts=99, deadline=1e9, repeatable=False)


@given(repeated, st.floats(0, 1e5), st.integers(0, 10**5), st.integers(1, 9), chances)
def test_it_never_comes_back_before_the_api_said(
    status: int, body: float, header: int, number: int, chance: float
) -> None:
    answer = said(status, retry_after=body, header=str(header))
    verdict = decide(Attempt(number, answer, 0.0), patient, chance=chance)
    assert isinstance(verdict, Wait)
    assert verdict.seconds >= min(max(body, header), MAX_RETRY_AFTER)
    assert verdict.everybody is (status == 429)


@often
@given(attempts, terms, chances)
def test_it_never_repeats_what_may_have_been_done_unless_it_may_be_done_twice(
    attempt: Attempt, terms: Terms, chance: float
) -> None:
    verdict = decide(attempt, terms, chance=chance)
    unknown = is_unknown(attempt.outcome, keyed=terms.keyed)
    assert terms.repeatable or not unknown or verdict is None


@given(st.integers(300, 499), st.booleans(), st.booleans(), chances)
def test_a_refusal_is_never_repeated_whoever_trusts_whom(
    status: int, ours: bool, repeatable: bool, chance: float
) -> None:
    outcome = said(status) if ours else page(status)
    verdict = decide(Attempt(1, outcome, 0.0), Terms(99, 1e9, repeatable), chance=chance)
    assert isinstance(verdict, Wait) is (status in (408, 425, 429))


@given(outcomes)
def test_what_counts_for_no_day_is_certain(outcome: Answer | TransportError) -> None:
    assert not (is_refusal(outcome) and is_unknown(outcome, keyed=False))


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [
        (said(302), True),
        (said(401), True),
        (said(422), True),
        (said(429), False),
        (said(500), False),
        (said(503), False),
        (lost(sent=True), False),
        (lost(sent=False), True),
        (RequestRejected("a body that is not JSON"), True),
    ],
)
def test_what_counts_for_the_day(outcome: Answer | TransportError, refusal: bool) -> None:
    assert is_refusal(outcome) is refusal


# ── the budget ──────────────────────────────────────────────────────────────────────────────


def test_the_budget_lets_a_hundred_retries_through_and_then_one_for_five_successes() -> None:
    budget = RetryBudget()
    assert sum(budget.spend(Wait(1.0)) for _ in range(1000)) == 100
    for _ in range(5):
        assert not budget.spend(Wait(1.0))
        budget.earn()
    assert budget.spend(Wait(1.0))


def test_the_budget_never_holds_more_than_it_began_with() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend(Wait(1.0)) for _ in range(1000)) == 100


def test_a_wait_that_the_limits_enforce_costs_nothing() -> None:
    budget = RetryBudget()
    assert all(budget.spend(Wait(1.0, everybody=True)) for _ in range(1000))
    assert budget.spend(Wait(1.0))


def test_threads_do_not_spend_the_same_retry_twice() -> None:
    budget, granted = RetryBudget(), []

    def spend() -> None:
        granted.extend(budget.spend(Wait(1.0)) for _ in range(200))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(granted) == 100
