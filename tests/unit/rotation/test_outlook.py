"""What status tells from the stages alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cmzon_secrets.rotation import RotationPolicy, outlook
from cmzon_secrets.tokens import Token, Versions

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = RotationPolicy("acme")


def token(number: int = 1, *, age: float = 1.0, life: float | None = None) -> Token:
    born = NOW - timedelta(days=age)
    end = born + timedelta(days=life) if life is not None else None
    return Token(f"value{number}", id=f"tok_{number}", issued_at=born, expires_at=end)


def told(versions: Versions) -> tuple[str, str]:
    seen = outlook(versions, POLICY, NOW)
    return seen.state, seen.reason


def test_a_young_token_is_fine_until_it_is_due():
    seen = outlook(Versions(token(age=10)), POLICY, NOW)
    assert (seen.state, seen.next_due) == ("done", NOW + timedelta(days=20))


def standing(versions: Versions, policy: RotationPolicy = POLICY) -> str:
    """The word that tells it; the reason begins with it, and due is nobody's trouble yet."""
    seen = outlook(versions, policy, NOW)
    assert seen.standing == "fine" or seen.reason.startswith(f"{seen.standing}: ")
    states = {"fine": "done", "due": "waiting", "overdue": "attention", "stuck": "attention"}
    assert seen.state == states[seen.standing]
    return seen.standing


def test_no_token_is_overdue():
    assert standing(Versions()) == "overdue"


def test_an_old_token_is_due_for_a_day_and_then_overdue():
    assert standing(Versions(token(age=29.9))) == "fine"
    assert standing(Versions(token(age=30.5))) == "due"
    assert standing(Versions(token(age=31))) == "overdue"


def test_where_tokens_are_replaced_often_they_are_overdue_sooner():
    hourly = RotationPolicy("acme", rotate_every=timedelta(hours=1))
    assert standing(Versions(token(age=63 / 1440)), hourly) == "due"
    assert standing(Versions(token(age=67 / 1440)), hourly) == "overdue"


def test_a_token_that_will_expire_is_overdue_halfway_to_its_end_at_the_latest():
    short = RotationPolicy(
        "acme", grace=timedelta(hours=1), expires_in=timedelta(hours=8), reader_ttl=60
    )
    assert standing(Versions(token(age=6.5 / 24, life=8 / 24)), short) == "due"
    assert standing(Versions(token(age=7.5 / 24, life=8 / 24)), short) == "overdue"


def test_a_token_that_is_due_while_its_predecessor_is_in_its_grace_waits_for_that():
    held = Versions(token(2, age=40), previous=token(1), promoted_at=NOW - timedelta(hours=23))
    assert standing(held) == "due"
    assert "tok_1 has to be revoked first" in told(held)[1]
    assert outlook(held, POLICY, NOW).next_due == NOW + timedelta(hours=1)


def test_an_expiring_token_is_overdue_and_an_expired_one_is_named():
    assert "expires" in told(Versions(token(age=16, life=20)))[1]
    assert "expired" in told(Versions(token(age=21, life=20)))[1]


def test_a_grace_that_runs_needs_nothing_now():
    seen = outlook(
        Versions(token(2), previous=token(1), promoted_at=NOW - timedelta(hours=1)), POLICY, NOW
    )
    assert (seen.state, seen.next_due) == ("done", NOW + timedelta(hours=23))


def test_a_grace_that_is_over_is_a_revoke_pending_and_then_stuck():
    held = Versions(token(2), previous=token(1), promoted_at=NOW - timedelta(days=2))
    assert "revoke pending" in told(held)[1]
    assert standing(held) == "due"
    held = Versions(token(2), previous=token(1), promoted_at=NOW - timedelta(days=8))
    assert standing(held) == "stuck"


def test_a_pending_token_is_on_its_way_and_after_an_hour_stuck():
    assert standing(Versions(token(1), pending=token(2, age=0.01))) == "due"
    assert standing(Versions(token(1), pending=token(2, age=0.1))) == "stuck"
