"""What is said of a token and its stages, by the dates recorded with them."""

from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets import RotationPolicy, Token, Versions
from cmzon_secrets.examinations.tokens import examine_stages, examine_token

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def findings(*, born=None, ends=None, rotate_every=30 * DAY):
    token = Token(
        "cmz_secret_value",
        id="tok_1",
        issued_at=NOW + born if born is not None else None,
        expires_at=NOW + ends if ends is not None else None,
    )
    margin = RotationPolicy("acme").renewal_margin
    found = list(examine_token(token, NOW, rotate_every=rotate_every, renewal_margin=margin))
    assert "cmz_secret_value" not in repr(found)
    return {finding.check: finding for finding in found}


@pytest.mark.parametrize(
    ("born", "ends", "severity", "message"),
    [
        (None, None, "note", "no expiry is recorded"),
        (-10 * DAY, 30 * DAY, "ok", "it expires in 30d"),
        (-29 * DAY, 11 * DAY, "ok", "it expires in 11d"),
        (-30 * DAY, 10 * DAY, "warning", "it expires in 10d: it should be replaced by now"),
        (None, 2 * DAY, "ok", "it expires in 2d"),
        (None, 1 * DAY, "warning", "it expires in 24h: it should be replaced by now"),
        (-30 * DAY, timedelta(0), "problem", "it expired 1s ago"),
        (-30 * DAY, -3 * DAY, "problem", "it expired 3d ago"),
    ],
)
def test_expiry(born, ends, severity, message):
    finding = findings(born=born, ends=ends)["token.expiry"]
    assert (finding.severity, finding.message) == (severity, message)
    assert "tok_1" in finding.evidence
    assert (finding.remedy is not None) == (severity in ("warning", "problem"))


@pytest.mark.parametrize(
    ("born", "severity", "message"),
    [
        (None, "note", "its age is not recorded"),
        (-30 * DAY, "ok", "it is 30d old"),
        (-31 * DAY, "warning", "it is 31d old, rotation is due every 30d"),
        (timedelta(minutes=4), "ok", "it is 1s old"),
        (timedelta(minutes=6), "warning", "it was issued 6m from now: some clock is wrong"),
    ],
)
def test_age(born, severity, message):
    finding = findings(born=born)["token.age"]
    assert (finding.severity, finding.message) == (severity, message)


def staged(name, age=None):
    born = NOW - age if age is not None else None
    return Token(f"cmz_{name}", id=f"tok_{name}", issued_at=born)


def of_stages(**held):
    (finding,) = examine_stages(Versions(**held), NOW, grace=DAY)
    return finding.check, finding.severity, finding.message


CURRENT = staged("current")


def test_nothing_under_way():
    assert of_stages(current=CURRENT)[:2] == ("token.stages", "ok")


@pytest.mark.parametrize(
    ("age", "severity", "message"),
    [
        (timedelta(minutes=59), "note", "a token is staged for 59m: a rotation is under way"),
        (timedelta(hours=1), "warning", "a token is staged for 1h and was not promoted"),
        (None, "note", "a token is staged, since when is not recorded"),
    ],
)
def test_a_token_that_stays_staged(age, severity, message):
    found = of_stages(current=CURRENT, pending=staged("next", age))
    assert found == ("token.pending", severity, message)


@pytest.mark.parametrize(
    ("ago", "severity", "message"),
    [
        (timedelta(hours=23), "ok", "the replaced token lives on for 1h"),
        (timedelta(hours=26), "warning", "the replaced token should have been revoked 2h ago"),
        (None, "note", "the replaced token is not revoked yet"),
    ],
)
def test_a_token_that_was_replaced_and_lives_on(ago, severity, message):
    since = NOW - ago if ago is not None else None
    found = of_stages(current=CURRENT, previous=staged("old"), promoted_at=since)
    assert found == ("token.previous", severity, message)


def test_a_rollback_under_way_is_told_once():
    old = staged("old", timedelta(minutes=5))
    assert of_stages(current=CURRENT, previous=old, pending=old)[0] == "token.pending"
