"""A call without any I/O: what it asks for, and what it makes of each outcome."""

from __future__ import annotations

import pytest

from cmzon_secrets.answers import LONGEST_ID, Answer
from cmzon_secrets.client.effects import NeedToken, Request, Work
from cmzon_secrets.client.exchange import Call
from cmzon_secrets.client.retry import Wait
from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    DailyLimitReached,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.tokens import MASK, Token
from unit.client.desk import ACCEPTED, NEW, OLD, TO, Desk, answer, never_left, refusal

# ── one attempt ─────────────────────────────────────────────────────────────────────────────


def test_the_token_is_asked_for_last_and_the_answer_becomes_a_result() -> None:
    desk = Desk()
    result = desk.send(ACCEPTED)
    assert [type(effect) for effect in desk.asked] == [NeedToken, Request]
    (request,) = desk.sent
    assert (request.token, request.attempt, request.within) == (OLD, 1, 60.0)
    assert (result.id, result.status, result.to) == ("msg_1", "accepted", TO)
    assert (result.request_id, result.attempts) == ("req_200", 1)


def test_who_wants_to_know_is_told_once_just_before_the_first_request() -> None:
    desk = Desk()
    moments: list[int] = []
    desk.tokens = [OLD, NEW]
    call = desk.call(departing=lambda: moments.append(len(desk.sent)))
    desk.send(answer(401), ACCEPTED, call=call)
    assert moments == [0]
    kinds = [type(effect) for effect in desk.asked]
    assert kinds[:3] == [NeedToken, Work, Request]
    assert kinds.count(Work) == 1


@pytest.mark.parametrize("body", [b"", b"OK", b"[1]", b"null", b'"x"', b"[" * 100_000])
def test_a_success_that_is_not_the_expected_json_may_have_been_accepted(body: bytes) -> None:
    error = Desk(trusted=True).send(answer(200, body))
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent
    assert (error.status, error.request_id, error.attempts) == (200, "req_200", 1)
    assert "may have taken effect" in str(error)


@pytest.mark.parametrize("body", [{}, {"id": 7, "status": [], "to": None}, {"messages": []}])
def test_a_success_of_another_shape_is_still_a_success(body: dict[str, object]) -> None:
    result = Desk().send(answer(202, body))
    assert (result.id, result.status, result.to) == (None, None, TO)


def test_a_result_and_its_events_repeat_no_secret_and_are_printable_and_short() -> None:
    secret = "cmz_old"
    said = {"id": f"\x1b]0;{TO[1:]}\x07", "status": f"\x1b[2J {secret}", "to": f"\u202e{secret}"}
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    headers = {"X_Request_Id": f"\x9b2J {TO}" + "x" * 90_000, "X_Echo": f"{TO} {secret}"}
    result = Desk().send(answer(202, {**said, "details": deep}, **headers))
    assert (result.id, result.status) == (f"]0;{MASK}", f"[2J {MASK}")
    assert (result.to, result.headers["x-echo"]) == (MASK, f"{MASK} {MASK}")
    assert result.request_id.startswith(f"2J {MASK}x")
    assert len(result.request_id) <= LONGEST_ID
    assert Desk().send(answer(202, {"id": "x" * 10**6})).id == "x" * LONGEST_ID


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, RequestRejected),
        (400, RequestRejected),
        (403, PermissionDenied),
        (404, RequestRejected),
        (422, RequestRejected),
        (500, ServerError),
    ],
)
def test_what_repeating_cannot_mend_is_its_typed_error_at_once(
    status: int, kind: type[APIError]
) -> None:
    desk = Desk()
    error = desk.send(answer(status))
    assert type(error) is kind
    assert (error.status, error.request_id, error.attempts) == (status, f"req_{status}", 1)
    assert str(error).startswith(f"POST /v1/messages — {status}")
    assert len(desk.sent) == 1


def test_an_answer_without_a_body_is_none() -> None:
    desk = Desk()
    call = Call(Request("DELETE", "/v1/tokens/x"), desk.terms, desk.shared)
    response = desk.run(call.response(), answer(204))
    assert (response.status, response.json) == (204, None)


def test_an_error_names_the_place_that_was_asked_without_its_query() -> None:
    for outcome in (answer(404), answer(200, b"<html>")):
        desk = Desk()
        call = Call(Request("GET", f"/v1/messages?to={TO}"), desk.terms, desk.shared)
        error = desk.run(call.response(), outcome)
        assert str(error).startswith(f"GET /v1/messages — {outcome.status}")
        assert TO not in str(error)


# ── 401 ─────────────────────────────────────────────────────────────────────────────────────


def test_a_401_goes_out_once_more_with_a_token_that_differs_and_the_same_key() -> None:
    desk = Desk()
    desk.tokens = [OLD, NEW]
    result = desk.send(answer(401), ACCEPTED)
    first, second = desk.sent
    assert (first.token, second.token) == (OLD, NEW)
    assert first.headers == second.headers == {"Idempotency-Key": "key-1"}
    assert first.json == second.json
    assert (result.attempts, second.attempt) == (2, 2)
    assert [(e.name, e.token_id, e.facts) for e in desk.seen] == [
        ("token_rejected", "tok_old", {"request_id": "req_401"})
    ]


def test_a_401_is_final_at_once_where_the_token_is_still_the_same() -> None:
    desk = Desk()
    desk.tokens = [OLD, Token("cmz_old")]
    error = desk.send(answer(401))
    assert isinstance(error, AuthenticationError)
    assert error.attempts == 1
    assert [type(effect) for effect in desk.asked] == [NeedToken, Request, NeedToken]


def test_a_second_401_is_final() -> None:
    desk = Desk()
    desk.tokens = [OLD, NEW]
    assert isinstance(desk.send(answer(401), answer(401)), AuthenticationError)
    assert [request.token for request in desk.sent] == [OLD, NEW]
    assert [e.token_id for e in desk.seen] == ["tok_old", "tok_new"]


def test_a_token_that_was_refused_is_not_sent_again_even_when_it_comes_back() -> None:
    desk = Desk()
    desk.tokens = [OLD, NEW, NEW, OLD]
    error = desk.send(answer(401), refusal(503), ACCEPTED)
    assert isinstance(error, AuthenticationError)
    assert [request.token for request in desk.sent] == [OLD, NEW]


def test_a_token_replaced_between_two_attempts_is_the_one_that_the_second_carries() -> None:
    desk = Desk()
    desk.tokens = [OLD, NEW]
    assert desk.send(refusal(503), ACCEPTED).attempts == 2
    assert [request.token for request in desk.sent] == [OLD, NEW]


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b'{"error": "no"}', b"\xff"])
def test_a_401_is_recognised_whatever_its_body(body: bytes) -> None:
    desk = Desk()
    desk.tokens = [OLD, NEW]
    assert desk.send(answer(401, body), ACCEPTED).attempts == 2


# ── what is repeated, and what stands in the way ────────────────────────────────────────────


def test_a_retry_waits_and_is_told() -> None:
    desk = Desk()
    result = desk.send(refusal(503, retry_after=2), never_left(), ACCEPTED)
    assert result.attempts == 3
    assert 2 <= desk.slept[0] <= 2.2
    assert [(e.name, e.token_id, e.facts["attempt"], e.facts["status"]) for e in desk.seen] == [
        ("message_retried", "tok_old", 1, 503),
        ("message_retried", "tok_old", 2, None),
    ]


def test_a_429_is_waited_for() -> None:
    desk = Desk()
    began = desk.clock.monotonic()
    desk.send(refusal(429, retry_after=20), ACCEPTED)
    assert desk.clock.monotonic() - began >= 20


def test_a_429_beyond_the_deadline_holds_everybody_back_for_a_minute_at_most() -> None:
    desk = Desk(deadline=100.0)
    assert isinstance(desk.send(refusal(429, retry_after=600)), RateLimited)
    began = desk.clock.monotonic()
    desk.send(ACCEPTED)
    assert desk.clock.monotonic() - began == pytest.approx(60, abs=1)


def test_a_long_429_is_waited_for_in_full_where_the_deadline_allows_it() -> None:
    desk = Desk(deadline=1000.0)
    began = desk.clock.monotonic()
    assert desk.send(refusal(429, retry_after=300), ACCEPTED).attempts == 2
    assert desk.clock.monotonic() - began >= 300


def test_no_more_attempts_are_made_than_allowed_and_the_last_error_is_raised() -> None:
    desk = Desk(max_attempts=3)
    error = desk.send(refusal(503), refusal(502), refusal(500), ACCEPTED)
    assert (error.status, error.attempts, error.may_have_been_sent) == (500, 3, False)


def test_without_retries_left_in_the_budget_nothing_is_repeated() -> None:
    desk = Desk()
    while desk.shared.budget.spend(Wait(1.0)):
        pass
    assert desk.send(refusal(503), ACCEPTED).status == 503
    assert len(desk.sent) == 1


@pytest.mark.parametrize(
    "outcome", [TransportError("lost"), answer(500, b"<html>"), answer(504), refusal(504)]
)
def test_what_may_have_been_accepted_is_repeated_only_where_keys_are_honoured(
    outcome: Answer | TransportError,
) -> None:
    error = Desk().send(outcome, ACCEPTED)
    assert (error.may_have_been_sent, error.attempts) == (True, 1)
    assert Desk(trusted=True).send(outcome, ACCEPTED).attempts == 2


@pytest.mark.parametrize("last", [answer(403), refusal(500), never_left(), answer(429)])
def test_a_doubt_stays_whatever_a_later_attempt_says(last: Answer | TransportError) -> None:
    error = Desk(trusted=True, max_attempts=2).send(TransportError("lost"), last)
    assert (error.may_have_been_sent, error.attempts) == (True, 2)


def test_what_keeps_a_retry_back_does_not_hide_that_the_message_may_have_been_accepted() -> None:
    desk = Desk(trusted=True)
    down = ProviderUnavailable("vault — sealed")
    desk.tokens = [OLD, down]
    lost = TransportError("lost")
    error = desk.send(lost)
    assert error is lost
    assert error.__cause__ is down
    assert (error.may_have_been_sent, error.attempts) == (True, 1)


def test_what_keeps_a_retry_back_is_told_where_nothing_can_have_been_accepted() -> None:
    desk = Desk()
    down = ProviderUnavailable("vault — sealed")
    desk.tokens = [OLD, down]
    assert desk.send(refusal(503)) is down
    desk.tokens = [OLD, down]
    assert desk.send(answer(401)) is down


def test_what_a_subscriber_raises_before_a_retry_does_not_hide_the_doubt() -> None:
    desk = Desk(trusted=True)
    full = OSError("the log is full")  # as a cache's subscriber may raise it
    desk.tokens = [OLD, full]
    error = desk.send(TransportError("lost"))
    assert isinstance(error, TransportError)
    assert (error.may_have_been_sent, error.__cause__) == (True, full)


def test_a_day_that_is_over_before_a_retry_says_so_with_the_doubt() -> None:
    desk = Desk(trusted=True, per_day=1)
    error = desk.send(TransportError("lost"))
    assert isinstance(error, DailyLimitReached)
    assert error.may_have_been_sent


def test_a_token_that_comes_too_late_sends_nothing() -> None:
    desk = Desk(deadline=5.0)
    desk.token_takes = 6.0
    error = desk.send(ACCEPTED)
    assert isinstance(error, ProviderUnavailable)
    assert desk.sent == []
    assert desk.limits.usage(desk.clock.now()).sent_today == 0
