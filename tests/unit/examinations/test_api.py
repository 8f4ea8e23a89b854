"""Whether the API takes a token, asked of the emulator."""

import json
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cmzon_secrets import CMzonIssuer, ManualIssuer, Token, TokenRequest
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.examinations.api import (
    MANAGE,
    SENDING,
    examine_acceptance,
    examine_endpoint,
)
from cmzon_secrets.testing import MemoryStore


@pytest.fixture(scope="module")
def emulator():
    with Emulator(tls=True) as emulator:
        yield emulator


@pytest.fixture
def issuer(emulator):
    admin = MemoryStore()
    admin.stage(Token(emulator.admin_token, id="tok_admin"))
    admin.promote("tok_admin", replacing=None)
    issuer = CMzonIssuer(admin, base_url=emulator.base_url, ca=emulator.ca)
    yield issuer
    issuer.close()


@pytest.fixture
def issue(issuer):
    def issue(*scopes, **options):
        request = TokenRequest("doctor", scopes=scopes or ("messages:send",), **options)
        return issuer.issue(request, idempotency_key=uuid4().hex)

    return issue


def accepted(issuer, token, wanted=SENDING, **options):
    found = list(examine_acceptance(issuer, token, wanted=wanted, **options))
    assert token.reveal() not in repr(found)
    return {finding.check: finding for finding in found}


def severities(found):
    return {check: finding.severity for check, finding in found.items()}


# the endpoint


def endpoint(emulator, now=None):
    now = now or datetime.now(UTC)
    found = examine_endpoint(emulator.base_url, ca=emulator.ca, now=now)
    return {finding.check: finding for finding in found}


def test_an_api_that_answers_as_it_should(emulator):
    assert severities(endpoint(emulator)) == {
        "reachability.api": "ok",
        "tls.api": "ok",
        "clock.api": "ok",
    }


def test_asking_it_sends_no_token(emulator):
    before = emulator.stats()["by_status"]
    endpoint(emulator)
    assert emulator.stats()["by_status"].get("200", 0) == before.get("200", 0)


def test_a_clock_that_is_wrong_is_a_problem(emulator):
    found = endpoint(emulator, datetime.now(UTC) + timedelta(minutes=10))
    assert found["clock.api"].severity == "problem"
    assert "ahead of that of the API" in found["clock.api"].message


def test_an_api_that_does_not_answer(tmp_path):
    (finding,) = examine_endpoint("http://127.0.0.1:9", ca=None, now=datetime.now(UTC))
    assert (finding.check, finding.severity) == ("reachability.api", "problem")
    assert finding.remedy


# the token


def test_a_token_that_is_taken(issuer, issue):
    found = accepted(issuer, issue())
    assert severities(found) == {
        "api.token": "ok",
        "api.token_egress": "note",
        "api.token_scopes": "ok",
    }
    assert "never used" in found["api.token"].evidence


def test_asking_changes_nothing_at_the_api(emulator, issuer, issue):
    token = issue()
    before = emulator.stats()["tokens"], emulator.stats()["messages"]
    accepted(issuer, token)
    with closing(ManualIssuer(base_url=emulator.base_url, ca=emulator.ca)) as by_hand:
        accepted(by_hand, token)
    assert (emulator.stats()["tokens"], emulator.stats()["messages"]) == before


def test_a_token_that_is_dead(issuer, issue):
    token = issue()
    issuer.revoke(token)
    finding = accepted(issuer, token)["api.token"]
    assert finding.severity == "problem"
    assert "401" in finding.message
    assert "cmzon-secrets rotate" in finding.remedy


def test_an_address_that_is_not_among_the_allowed(issuer, issue):
    found = accepted(issuer, issue(allowed_ips=("203.0.113.7",)))
    finding = found["api.token_egress"]
    assert finding.severity == "problem"
    assert "allowed_ips: 203.0.113.7" in finding.evidence
    assert "--allowed-ip" in finding.remedy


def test_an_address_that_is_among_the_allowed(issuer, issue):
    found = accepted(issuer, issue(allowed_ips=("127.0.0.0/8",)))
    assert found["api.token_egress"].severity == "ok"


def test_an_issuer_by_hand_knows_of_life_but_not_of_addresses(emulator, issue):
    token = issue(allowed_ips=("203.0.113.7",))
    with closing(ManualIssuer(base_url=emulator.base_url, ca=emulator.ca)) as by_hand:
        found = accepted(by_hand, token)
    assert found["api.token"].severity == "ok"
    assert found["api.token_egress"].severity == "note"
    assert "not known" in found["api.token_egress"].message


def test_a_sending_token_that_may_make_tokens_is_too_much(issuer, issue):
    found = accepted(issuer, issue("messages:send", "tokens:manage"))
    assert found["api.token_scopes"].severity == "warning"
    assert "make and revoke tokens" in found["api.token_scopes"].message


def test_a_token_without_the_scope_it_needs(issuer, issue):
    found = accepted(issuer, issue("audit:read"))
    assert found["api.token_scopes"].severity == "problem"


def test_an_admin_token_is_held_against_what_admins_need(issuer, issue):
    found = accepted(issuer, issue("tokens:manage"), frozenset({MANAGE}), what="admin token")
    assert found["api.admin_token_scopes"].severity == "ok"
    found = accepted(issuer, issue(), frozenset({MANAGE}), what="admin token")
    assert found["api.admin_token_scopes"].severity == "problem"


def test_an_api_that_fails_leaves_the_token_unjudged(emulator, issuer, issue):
    token = issue()
    fault = {"route": "GET /v1/tokens/self", "status": 500, "count": 1}
    control(emulator, "faults", fault)
    finding = accepted(issuer, token)["api.token"]
    assert finding.severity == "warning"
    assert "not known" in finding.message


def control(emulator, name, body):
    import ssl

    request = urllib.request.Request(
        f"{emulator.base_url}/_emulator/{name}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=emulator.ca)
    urllib.request.urlopen(request, context=context).close()
