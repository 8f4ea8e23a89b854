"""/v1/tokens, and what tokens may do."""

import json
import re
from datetime import datetime, timedelta

import httpx2
import pytest


def listed(api, **query):
    answer = api.call("GET", "/v1/tokens", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_issued_token_has_every_promised_member(api):
    token = api.issue(expires_in=60, allowed_ips=["127.0.0.0/8"])
    assert set(token) == {
        *("id", "token", "name", "scopes", "created_at", "expires_at", "allowed_ips")
    }
    assert re.fullmatch(r"cmz_[A-Za-z0-9_-]{43}", token["token"])
    life = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(token["created_at"])
    assert life == timedelta(seconds=60)
    assert token["allowed_ips"] == ["127.0.0.0/8"]


def test_a_token_without_expires_in_never_expires(api):
    token = api.issue()
    api.control("clock", advance=50 * 365 * 86400)
    assert token["expires_at"] is None
    assert api.send(token["token"]).status_code == 200


def test_a_token_dies_when_it_expires(api):
    token = api.issue(expires_in=3600)["token"]
    api.control("clock", advance=3599 - 60)
    assert api.send(token).status_code == 200
    api.control("clock", advance=61)
    assert api.send(token).status_code == 401


def test_a_token_that_expired_lives_again_when_the_clock_is_set_back(api):
    token = api.issue(expires_in=3600)["token"]
    api.control("clock", advance=7200)
    assert api.send(token).status_code == 401
    api.control("clock", advance=-7200)
    assert api.send(token).status_code == 200


def test_only_tokens_manage_may_issue_list_and_revoke(api):
    sender = api.issue(scopes=["messages:send", "audit:read", "whatsapp_business"])["token"]
    wish = {"name": "x", "scopes": ["messages:send"]}
    assert api.call("POST", "/v1/tokens", sender, json=wish).status_code == 403
    assert api.call("GET", "/v1/tokens", sender).status_code == 403
    assert api.call("DELETE", "/v1/tokens/tok_x", sender).status_code == 403


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "\t\u3000\u00a0"}, "name"),
        ({"name": "\u200b"}, "name"),
        ({"name": "\u2067\u200f\ufe0f\u2069"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "messages:send"}, "scopes"),
        ({"scopes": ["messages:send", "messages:read"]}, "scopes"),
        ({"scopes": ["messages:send", "messages:send"]}, "scopes"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": "60"}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": 1e12}, "expires_in"),
        ({"allowed_ips": "127.0.0.1"}, "allowed_ips"),
        ({"allowed_ips": ["127.0.0.256"]}, "allowed_ips"),
        ({"allowed_ips": ["10.0.0.1/8"]}, "allowed_ips"),
        ({"allowed_ips": ["fe80::1%eth0"]}, "allowed_ips"),
        ({"allowed_ips": ["::1%" + "x" * 50_000]}, "allowed_ips"),
        ({"allowed_ips": [f"::/{'0' * 60}64"]}, "allowed_ips"),
        ({"name": "prod cmz_" + "a1" * 20}, "name"),
        ({"name": "cmz_" + "a1" * 20}, "name"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_bad_field_is_named_and_no_token_is_made(api, change, named):
    wish = {"name": "acme", "scopes": ["messages:send"]} | change
    assert api.details(api.call("POST", "/v1/tokens", json=wish)).startswith(f"{named} — ")
    assert api.stats()["tokens"] == {"live": 1, "revoked": 0}


@pytest.mark.parametrize("name", ["x", " x ", "שלום", "\u200fעולם", "日本", "🛰\ufe0f", "a\x00b"])
def test_a_name_needs_one_character_that_can_be_seen_whatever_else_is_in_it(api, name):
    assert api.issue(name=name)["name"] == name


@pytest.mark.parametrize("named", ["name", "scopes", "allowed_ips"])
def test_what_is_not_unicode_is_named_and_no_token_is_made(api, named):
    wish = {"name": "acme", "scopes": ["messages:send"]}
    for value in ("\ud800", "fe80::1%\ud800"):
        given = json.dumps(wish | {named: value if named == "name" else [value]})
        details = api.details(api.call("POST", "/v1/tokens", content=given))
        assert details.startswith(f"{named} — ")
        assert "Unicode" in details
    assert api.stats()["tokens"]["live"] == 1


def test_a_name_that_a_token_was_pasted_into_is_not_repeated(api):
    token = api.emulator.admin_token
    answer = api.call("POST", "/v1/tokens", json={"name": token, "scopes": ["messages:send"]})
    assert "a token stands in it" in api.details(answer)
    assert token not in answer.text


def test_an_unknown_scope_is_named_together_with_the_known_ones(api):
    wish = {"name": "acme", "scopes": ["messages:read"]}
    details = api.details(api.call("POST", "/v1/tokens", json=wish))
    assert "'messages:read'" in details
    assert "messages:send" in details


def test_the_same_key_gives_the_same_token(api):
    assert api.issue(key="k1") == api.issue(key="k1")
    assert len(listed(api, name="acme")["data"]) == 1


def test_the_same_key_gives_the_same_token_even_when_it_was_revoked_since(api):
    token = api.issue(key="k1")
    api.revoke(token["id"])
    assert api.issue(key="k1") == token
    assert api.send(token["token"]).status_code == 401


def test_a_key_used_with_another_body_is_refused(api):
    api.issue(key="k1")
    wish = {"name": "acme", "scopes": ["audit:read"]}
    assert api.details(api.call("POST", "/v1/tokens", key="k1", json=wish), 422)
    assert len(listed(api, name="acme")["data"]) == 1


def test_the_same_key_on_another_route_is_another_key(api):
    api.issue(key="k1")
    assert api.send(key="k1").status_code == 200


def test_other_keys_and_no_key_give_other_tokens(api):
    tokens = [api.issue(key="k1"), api.issue(key="k2"), api.issue(), api.issue()]
    assert len({token["token"] for token in tokens}) == 4


def test_a_listing_shows_everything_but_the_value(api):
    token = api.issue(expires_in=60)
    text = api.call("GET", "/v1/tokens").text
    assert token["token"] not in text
    (entry,) = listed(api, name="acme")["data"]
    assert set(entry) == {
        *("id", "name", "scopes", "created_at", "expires_at"),
        *("revoked_at", "last_used_at", "last_used_ip"),
    }
    assert entry["id"] == token["id"]
    assert entry["expires_at"] == token["expires_at"]


def test_a_listing_by_name_is_paged_and_misses_nothing(api):
    made = [api.issue()["id"] for _ in range(61)]
    api.issue(name="acme2")
    first = listed(api, name="acme")
    api.issue()  # while somebody pages
    second = listed(api, name="acme", cursor=first["next_cursor"])
    seen = [entry["id"] for page in (first, second) for entry in page["data"]]
    assert len(first["data"]) == 50
    assert seen[:61] == made
    assert second["next_cursor"] is None


def test_revoked_tokens_stay_listed(api):
    token = api.issue()
    api.revoke(token["id"])
    (entry,) = listed(api, name="acme")["data"]
    assert entry["revoked_at"] is not None


def test_an_unknown_cursor_or_parameter_is_refused_by_name(api):
    for query in ({"cursor": "tok_x"}, {"color": "red"}):
        details = api.details(api.call("GET", "/v1/tokens", params=query))
        assert details.startswith(f"{next(iter(query))} — ")


def test_revoking_kills_at_once_and_is_safe_to_repeat(api):
    token = api.issue()
    assert api.send(token["token"]).status_code == 200
    answers = [api.revoke(token["id"]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert all(answer.content == b"" for answer in answers)
    assert api.send(token["token"]).status_code == 401


def test_repeating_a_revocation_keeps_its_first_time(api):
    token = api.issue()
    api.revoke(token["id"])
    (before,) = listed(api, name="acme")["data"]
    api.control("clock", advance=60)
    api.revoke(token["id"])
    assert listed(api, name="acme")["data"] == [before]


def test_revoking_an_unknown_token_is_no_error(api):
    assert api.revoke("tok_unknown").status_code == 204


def test_self_tells_a_token_about_itself_without_counting_as_use(api):
    token = api.issue()
    entry = api.call("GET", "/v1/tokens/self", token["token"]).json()
    assert entry["id"] == token["id"]
    assert entry["last_used_at"] is None
    assert listed(api, name="acme")["data"] == [entry]


def test_self_needs_no_scope_but_a_live_token(api):
    token = api.issue(scopes=["audit:read"])
    assert api.call("GET", "/v1/tokens/self", token["token"]).status_code == 200
    api.revoke(token["id"])
    assert api.call("GET", "/v1/tokens/self", token["token"]).status_code == 401


def test_use_is_noted_with_time_and_address(api):
    token = api.issue()
    api.control("clock", advance=86400)
    api.send(token["token"])
    (entry,) = listed(api, name="acme")["data"]
    used = datetime.fromisoformat(entry["last_used_at"])
    assert used - datetime.fromisoformat(entry["created_at"]) >= timedelta(days=1)
    assert entry["last_used_ip"] == "127.0.0.1"


def test_a_token_works_only_from_the_addresses_it_was_issued_for(api, connect):
    token = api.issue(allowed_ips=["127.0.0.2", "::1/128"])["token"]
    elsewhere = connect(api.emulator, transport=httpx2.HTTPTransport(local_address="127.0.0.2"))
    refused = api.send(token)
    assert "allowed_ips" in api.details(refused, 403)
    assert elsewhere.send(token).status_code == 200


def test_the_address_is_checked_before_the_scope_and_after_the_token(api):
    token = api.issue(allowed_ips=["192.0.2.0/24"], scopes=["audit:read"])
    assert "allowed_ips" in api.details(api.send(token["token"]), 403)
    api.revoke(token["id"])
    assert api.send(token["token"]).status_code == 401


def test_a_header_cannot_pretend_another_address(api):
    token = api.issue(allowed_ips=["192.0.2.7"])["token"]
    answer = api.call(
        "POST",
        "/v1/messages",
        token,
        json={},
        headers={"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"},
    )
    assert answer.status_code == 403


def test_use_from_an_address_that_is_refused_is_not_noted(api):
    token = api.issue(allowed_ips=["192.0.2.7"])
    api.send(token["token"])
    assert listed(api, name="acme")["data"][0]["last_used_at"] is None


def test_the_admin_token_can_replace_and_revoke_itself(api):
    heir = api.issue(scopes=["tokens:manage"])["token"]
    (own, *_) = listed(api)["data"]
    assert api.call("DELETE", f"/v1/tokens/{own['id']}", heir).status_code == 204
    assert api.call("GET", "/v1/tokens").status_code == 401
    assert api.call("GET", "/v1/tokens", heir).status_code == 200


def noted(api):
    """What is said of the newest request, beyond its answer."""
    return api.http.get("/_emulator/messages").json()["data"][-1]["notes"]


def test_why_a_request_was_refused_is_noted_and_never_told(api):
    token = api.issue(expires_in=60)
    api.control("clock", advance=61)
    answers = [api.send(token["token"])]
    assert noted(api) == [f"token: expired at {token['expires_at']}"]
    api.revoke(token["id"])
    answers.append(api.send(token["token"]))
    (entry,) = listed(api, name="acme")["data"]
    assert noted(api) == [f"token: revoked at {entry['revoked_at']}"]
    answers.append(api.send("cmz_unknown"))
    assert noted(api) == ["token: unknown"]
    answers.append(api.http.post("/v1/messages", json={}))
    assert noted(api) == ["token: none, or more than one"]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1


def test_an_address_and_a_scope_that_do_not_suffice_are_noted(api):
    assert api.send(api.issue(allowed_ips=["192.0.2.7"])["token"]).status_code == 403
    assert noted(api) == ["address: 127.0.0.1 is not one of allowed_ips"]
    assert api.send(api.issue(scopes=["audit:read"])["token"]).status_code == 403
    assert noted(api) == ["scope: messages:send is needed"]


@pytest.mark.parametrize(
    ("limits", "note"),
    [
        ({"per_second": 2, "per_day": None}, "limit: 2 messages a second"),
        ({"per_second": None, "per_day": 2}, "limit: 2 messages a day"),
        ({"per_second": 2, "per_day": 2}, "limit: 2 messages a day"),
    ],
)
def test_the_limit_that_was_met_is_noted(api, limits, note):
    api.control("limits", **limits)
    statuses = [api.send().status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert noted(api) == [note]
