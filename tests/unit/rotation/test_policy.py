"""A policy is refused at once, with its arithmetic, where no rotation could be safe."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.rotation import RotationPolicy


def test_the_defaults_are_accepted_and_warn_of_nothing():
    policy = RotationPolicy("acme")
    assert policy.rotate_every == timedelta(days=30)
    assert policy.grace == timedelta(hours=24)
    assert policy.scopes == ("messages:send",)
    assert policy.warnings == ()


def test_durations_are_timedeltas_or_seconds():
    assert RotationPolicy("a", grace=7200).grace == timedelta(hours=2)
    assert RotationPolicy("a", grace=timedelta(hours=2)).grace == timedelta(hours=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grace": 359}, "grace 359s < reader_ttl 5m + request_deadline 1m = 6m"),
        ({"revoke_limit": 3600}, "revoke_limit 1h < grace 24h"),
        ({"expires_in": timedelta(days=9), "renew_before": 3600}, "renew_before 1h < grace 24h"),
        ({"expires_in": timedelta(days=2)}, "expires_in 2d ≤ renew_before 24h + grace 24h"),
        ({"scopes": ()}, "scopes is empty"),
        ({"scopes": ["messages send"]}, "not a scope"),
        ({"allowed_ips": ["192.0.2.999"]}, "192.0.2.999"),
        ({"grace": 0}, "grace"),
        ({"rotate_every": -1}, "rotate_every"),
        ({"rotate_every": float("inf")}, "rotate_every"),
        ({"rotate_every": float("nan")}, "rotate_every"),
        ({"rotate_every": True}, "rotate_every"),
        ({"rotate_every": "30d"}, "rotate_every"),
    ],
)
def test_what_contradicts_itself_is_refused_and_named(options, said):
    with pytest.raises(ConfigurationError) as refusal:
        RotationPolicy("acme", **options)
    assert said in refusal.value.message


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, None, 7])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(ConfigurationError, match="name"):
        RotationPolicy(name)


def test_a_grace_that_a_reader_can_outlive_through_an_outage_is_warned_of():
    [warning] = RotationPolicy("acme", grace=timedelta(hours=12)).warnings
    assert "backend outage" in warning


def test_a_token_is_renewed_a_quarter_of_its_life_before_its_end_but_never_within_a_grace():
    policy = RotationPolicy("acme")
    assert policy.renewal_margin(timedelta(days=40)) == timedelta(days=10)
    assert policy.renewal_margin(timedelta(days=2)) == policy.grace
    assert policy.renewal_margin(None) == policy.grace
    three_days_before = RotationPolicy("acme", renew_before=timedelta(days=3))
    assert three_days_before.renewal_margin(timedelta(days=40)) == timedelta(days=3)
