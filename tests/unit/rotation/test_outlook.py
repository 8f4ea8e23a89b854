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


def test_no_token_needs_attention():
    assert told(Versions())[0] == "attention"


def test_an_old_token_is_overdue():
    assert told(Versions(token(age=31)))[0] == "attention"


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
    held = Versions(token(2), previous=token(1), promoted_at=NOW - timedelta(days=8))
    assert told(held)[0] == "attention"


def test_a_pending_token_is_on_its_way_and_after_an_hour_stuck():
    assert told(Versions(token(1), pending=token(2, age=0.01)))[0] == "waiting"
    assert told(Versions(token(1), pending=token(2, age=0.1)))[0] == "attention"
