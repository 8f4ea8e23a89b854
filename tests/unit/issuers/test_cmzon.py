"""CMzonIssuer against a scripted server: what is sent, and what is made of each answer."""

from __future__ import annotations

import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.errors import (
    AuthenticationError,
    ConfigurationError,
    IssuerError,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    ServerError,
    TokenNotFound,
    TransportError,
)
from cmzon_secrets.issuer import TokenRequest
from cmzon_secrets.issuers.cmzon import CMzonIssuer, TokenAPI
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.registry import open_issuer
from cmzon_secrets.tokens import Token

ADMIN = Token("admin-value-0", id="tok_admin")
FRESH_ADMIN = Token("admin-value-1", id="tok_admin_2")
VALUE = "issued-value-7c1d"
CREATED = "2026-11-24T20:00:00Z"
REQUEST = TokenRequest("acme-0a1b2c3d", ("messages:send",), timedelta(days=30), ("203.0.113.7",))

DEAD = {
    "error": {
        "code": 401,
        "message": "Invalid API token",
        "details": "Token has expired or is invalid",
    }
}
FORBIDDEN = {"error": {"code": 403, "message": "Insufficient permissions"}}


class Admin(TokenProvider):
    """Hands out the given tokens in turn, the last one for ever."""

    uri = "test:admin"

    def __init__(self, *tokens: Token) -> None:
        self.tokens = list(tokens)
        self.reads = 0
        self.closed = False

    def get(self) -> Token:
        self.reads += 1
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]

    def close(self) -> None:
        self.closed = True


class CachingAdmin(Admin):
    """Goes on with the same token until told that it is refused, like TokenCache."""

    def get(self) -> Token:
        self.reads += 1
        return self.tokens[0]

    def invalidate(self, token: Token) -> None:
        if token == self.tokens[0] and len(self.tokens) > 1:
            del self.tokens[0]


def entry(**changes):
    return {
        "id": "tok_1",
        "name": REQUEST.name,
        "scopes": ["messages:send"],
        "created_at": CREATED,
        "expires_at": "2026-12-24T20:00:00Z",
        "revoked_at": None,
        "last_used_at": None,
        "last_used_ip": None,
        **changes,
    }


def issued(**changes):
    return {
        "id": "tok_1",
        "token": VALUE,
        "name": REQUEST.name,
        "scopes": ["messages:send"],
        "created_at": CREATED,
        "expires_at": "2026-12-24T20:00:00Z",
        "allowed_ips": ["203.0.113.7"],
        **changes,
    }


def without(record, field):
    return {name: value for name, value in record.items() if name != field}


@pytest.fixture
def issuer(api):
    made = CMzonIssuer(Admin(ADMIN), base_url=api.base_url, timeout=5)
    yield made
    made.close()


def issue(issuer, request=REQUEST, key="key-1"):
    return issuer.issue(request, idempotency_key=key)


def shown(error):
    """All that a reporter could print of an error: messages, attributes, locals of our frames."""
    told, link = [], error
    while link is not None:
        told.append(f"{link!r} {vars(link)}")
        frames = traceback.walk_tb(link.__traceback__)
        told += [repr(f.f_locals) for f, _ in frames if f.f_code.co_filename != __file__]
        link = link.__cause__ or link.__context__
    return "\n".join(told)


# ── issue ────────────────────────────────────────────────────────────────────────────────────────


def test_issue_posts_the_request_with_the_admin_token_and_the_idempotency_key(api, issuer, reply):
    api.on("POST /v1/tokens", reply(201, issued()))

    issue(issuer, key="3f0e")

    (seen,) = api.seen
    assert seen.bearer == ADMIN.reveal()
    assert seen.headers["idempotency-key"] == "3f0e"
    assert seen.body == {
        "name": "acme-0a1b2c3d",
        "scopes": ["messages:send"],
        "expires_in": 2592000,
        "allowed_ips": ["203.0.113.7"],
    }


def test_issue_returns_the_token_with_all_its_metadata(api, issuer, reply):
    api.on("POST /v1/tokens", reply(201, issued()))

    token = issue(issuer)

    assert token.reveal() == VALUE
    assert token.id == "tok_1"
    assert token.scopes == ("messages:send",)
    assert token.issued_at == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert token.expires_at == datetime(2026, 12, 24, 20, tzinfo=UTC)
    assert token.allowed_ips == ("203.0.113.7",)


@pytest.mark.parametrize(
    ("expires_in", "sent"), [(None, None), (90, 90), (0.5, 0.5), (timedelta(hours=1), 3600)]
)
def test_expires_in_is_sent_in_seconds_or_null(api, issuer, reply, expires_in, sent):
    api.on("POST /v1/tokens", reply(201, issued(allowed_ips=[])))

    issue(issuer, TokenRequest(REQUEST.name, expires_in=expires_in))

    assert api.seen[0].body["expires_in"] == sent


def test_an_answer_200_is_a_token_too_because_a_repeated_key_may_say_so(api, issuer, reply):
    api.on("POST /v1/tokens", reply(200, issued()))
    assert issue(issuer).id == "tok_1"


def test_an_address_and_its_network_of_one_are_the_same_restriction(api, issuer, reply):
    api.on("POST /v1/tokens", reply(201, issued(allowed_ips=["203.0.113.7/32"])))
    assert issue(issuer).allowed_ips == ("203.0.113.7/32",)


@pytest.mark.parametrize("address", ["300.1.1.1", "10.0.0.1/24", "example.com", "", 5])
def test_an_allowed_ip_that_is_none_is_named_before_anything_is_sent(api, issuer, address):
    request = TokenRequest(REQUEST.name, allowed_ips=("203.0.113.7", address))

    with pytest.raises(ConfigurationError) as caught:
        issue(issuer, request)

    assert repr(address) in caught.value.message
    assert api.seen == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_lifetime_that_is_none_is_refused_before_anything_is_sent(api, issuer, seconds):
    with pytest.raises(ConfigurationError, match="expires_in"):
        issue(issuer, TokenRequest(REQUEST.name, expires_in=seconds))
    assert api.seen == []


BROKEN_ANSWERS = {
    "not JSON": (b"<html>" + VALUE.encode(), "not JSON"),
    "nested without end": (b'{"token":"' + VALUE.encode() + b'","x":' + b"[" * 90_000, "not JSON"),
    "a list": ([issued()], "JSON object"),
    "no id": (without(issued(), "id"), "id is not a string"),
    "an id that is a number": (issued(id=7), "id is not a string"),
    "an id with a line break": (issued(id="a\nb"), "id is not a string"),
    "an id with a space": (issued(id="a b"), "id must be"),
    "an id that is the value": (issued(id=VALUE), "id equals its value"),
    "no token": (without(issued(), "token"), "string is needed"),
    "a token that is a number": (issued(token=7), "string is needed"),
    "a token with a line break": (issued(token=VALUE + "\r\nX: y"), "line break"),
    "another name": (issued(name="acme"), "name"),
    "no scopes": (without(issued(), "scopes"), "scopes is not a list"),
    "scopes in one string": (issued(scopes="messages:send"), "scopes is not a list"),
    "more scopes": (issued(scopes=["messages:send", "tokens:manage"]), "scopes are others"),
    "no allowed_ips": (without(issued(), "allowed_ips"), "allowed_ips is not a list"),
    "no restriction": (issued(allowed_ips=[]), "allowed_ips are others"),
    "a wider restriction": (issued(allowed_ips=["0.0.0.0/0"]), "allowed_ips are others"),
    "a restriction that is none": (issued(allowed_ips=["anywhere"]), "allowed_ips are others"),
    "no created_at": (issued(created_at=None), "created_at is missing"),
    "a time without offset": (issued(created_at="2026-11-24T20:00:00"), "created_at"),
    "a time as a number": (issued(created_at=1764014400), "created_at"),
    "a time in a far future": (issued(created_at="9999-12-31T23:59:59Z"), "created_at"),
    "a time beyond UTC": (issued(created_at="0001-01-01T00:00:00+01:00"), "created_at"),
    "no expiry though asked": (issued(expires_at=None), "expires_at does not fit"),
    "expiry before creation": (issued(expires_at="2026-11-24T19:59:59Z"), "expires_at"),
}


@pytest.mark.parametrize("case", BROKEN_ANSWERS)
def test_an_answer_that_is_not_the_token_asked_for_is_refused(api, issuer, reply, case):
    body, fault = BROKEN_ANSWERS[case]
    api.on("POST /v1/tokens", reply(201, body))

    with pytest.raises(IssuerError) as caught:
        issue(issuer)

    assert fault in caught.value.message
    assert "\n" not in caught.value.message
    assert VALUE not in shown(caught.value)


def test_the_admin_token_handed_back_as_a_new_one_is_refused(api, issuer, reply):
    api.on("POST /v1/tokens", reply(201, issued(token=ADMIN.reveal())))

    with pytest.raises(IssuerError, match="admin token itself") as caught:
        issue(issuer)

    assert ADMIN.reveal() not in shown(caught.value)


def test_success_without_a_token_is_refused(api, issuer, reply):
    api.on("POST /v1/tokens", reply(204))
    with pytest.raises(IssuerError, match="status is 204"):
        issue(issuer)


def test_a_redirect_is_not_followed_with_the_admin_token(api, issuer, reply):
    api.on("POST /v1/tokens", reply(307, {}))
    with pytest.raises(IssuerError, match="status is 307"):
        issue(issuer)
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RequestRejected), (409, RequestRejected), (429, RateLimited), (503, ServerError)],
)
def test_a_refused_request_is_raised_as_it_is_and_never_repeated(api, issuer, reply, status, error):
    api.on("POST /v1/tokens", reply(status, {"error": {"code": status, "message": "Because"}}))

    with pytest.raises(error, match="Because"):
        issue(issuer)

    assert len(api.seen) == 1


def test_a_lost_answer_is_raised_as_it_is_and_never_repeated(api, issuer, reply):
    api.on("POST /v1/tokens", reply(hang_up=True))

    with pytest.raises(TransportError) as caught:
        issue(issuer)

    assert caught.value.may_have_been_sent
    assert len(api.seen) == 1
    assert ADMIN.reveal() not in shown(caught.value)


# ── the admin token ──────────────────────────────────────────────────────────────────────────────


def taking_the_place_of(token, *scopes):
    return TokenRequest(REQUEST.name, scopes, replacing=token)


@pytest.mark.parametrize("call", [issue, CMzonIssuer.check_request], ids=["issue", "check"])
def test_its_place_is_not_given_to_one_that_cannot_issue_and_nothing_is_sent(api, issuer, call):
    with pytest.raises(
        ConfigurationError, match="it would replace the admin token itself"
    ) as caught:
        call(issuer, taking_the_place_of(ADMIN, "messages:send", "audit:read"))
    assert "(messages:send, audit:read) lack tokens:manage" in caught.value.message
    assert "--scope tokens:manage" in caught.value.hint
    assert ADMIN.reveal() not in shown(caught.value)
    assert api.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        taking_the_place_of(ADMIN, "messages:send", "tokens:manage"),
        taking_the_place_of(FRESH_ADMIN, "messages:send"),
        taking_the_place_of(None, "messages:send"),
    ],
    ids=["with the scope", "of another token", "of none"],
)
def test_any_other_request_is_made(api, issuer, reply, request_):
    api.on("POST /v1/tokens", reply(201, issued(scopes=request_.scopes, allowed_ips=[])))
    issuer.check_request(request_)
    assert issue(issuer, request_).id == "tok_1"


def test_the_scope_goes_by_the_name_that_the_api_has_for_it(api, reply):
    api.on("POST /v1/tokens", reply(201, issued(scopes=["api-keys:write"], allowed_ips=[])))
    names = TokenAPI(manage_scope="api-keys:write")
    issuer = CMzonIssuer(Admin(ADMIN), base_url=api.base_url, api=names)
    with pytest.raises(ConfigurationError, match="lack api-keys:write"):
        issuer.check_request(taking_the_place_of(ADMIN, "tokens:manage"))
    assert issue(issuer, taking_the_place_of(ADMIN, "api-keys:write")).id == "tok_1"
    issuer.close()


def test_nor_is_the_place_of_the_one_that_replaced_it_meanwhile(api, reply):
    api.on("POST /v1/tokens", reply(401, DEAD))
    issuer = CMzonIssuer(CachingAdmin(ADMIN, FRESH_ADMIN), base_url=api.base_url)
    with pytest.raises(ConfigurationError, match="the admin token itself"):
        issue(issuer, taking_the_place_of(FRESH_ADMIN, "messages:send"))
    assert [seen.bearer for seen in api.seen] == [ADMIN.reveal()]
    issuer.close()


def test_a_request_for_a_token_neither_shows_nor_compares_what_it_replaces():
    request = taking_the_place_of(ADMIN, "messages:send")
    assert request == taking_the_place_of(None, "messages:send")
    assert ADMIN.reveal() not in repr(request)


def test_the_admin_token_is_read_at_every_call_and_never_before(api, reply):
    api.on("DELETE /v1/tokens/tok_1", reply(204))
    admin = Admin(ADMIN, FRESH_ADMIN)
    issuer = CMzonIssuer(admin, base_url=api.base_url)
    assert admin.reads == 0

    issuer.revoke("tok_1")
    issuer.revoke("tok_1")

    assert [seen.bearer for seen in api.seen] == [ADMIN.reveal(), FRESH_ADMIN.reveal()]
    issuer.close()


@pytest.mark.parametrize("kind", [Admin, CachingAdmin])
def test_an_admin_token_rotated_meanwhile_is_replaced_and_the_call_repeated_once(api, reply, kind):
    api.on(
        "POST /v1/tokens",
        lambda seen: reply(201, issued()) if seen.bearer != ADMIN.reveal() else reply(401, DEAD),
    )
    issuer = CMzonIssuer(kind(ADMIN, FRESH_ADMIN), base_url=api.base_url)

    assert issue(issuer, key="same").id == "tok_1"

    assert [seen.bearer for seen in api.seen] == [ADMIN.reveal(), FRESH_ADMIN.reveal()]
    assert {seen.headers["idempotency-key"] for seen in api.seen} == {"same"}
    issuer.close()


@pytest.mark.parametrize(
    "call",
    [
        issue,
        lambda issuer: list(issuer.list(REQUEST.name)),
        lambda issuer: issuer.revoke("tok_1"),
    ],
    ids=["issue", "list", "revoke"],
)
def test_a_dead_admin_token_never_reads_as_the_death_of_another(api, issuer, reply, call):
    for route in ("POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/tokens/tok_1"):
        api.on(route, reply(401, DEAD))

    with pytest.raises(IssuerError) as caught:
        call(issuer)

    assert "it is the admin token that is refused (401)" in caught.value.message
    assert ADMIN.id in str(caught.value)
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert len(api.seen) == 1, "the same token must not be tried twice"
    assert ADMIN.reveal() not in shown(caught.value)


def test_two_dead_admin_tokens_are_tried_once_each_and_no_more(api, reply):
    api.on("DELETE /v1/tokens/tok_1", reply(401, DEAD))
    third = Token("admin-value-2")
    issuer = CMzonIssuer(Admin(ADMIN, FRESH_ADMIN, third), base_url=api.base_url)

    with pytest.raises(IssuerError, match=FRESH_ADMIN.id):
        issuer.revoke("tok_1")

    assert [seen.bearer for seen in api.seen] == [ADMIN.reveal(), FRESH_ADMIN.reveal()]
    issuer.close()


def test_an_admin_token_without_the_scope_is_named_with_the_remedy(api, issuer, reply):
    api.on("POST /v1/tokens", reply(403, FORBIDDEN))

    with pytest.raises(PermissionDenied) as caught:
        issue(issuer)

    assert ADMIN.id in str(caught.value)
    assert "tokens:manage" in caught.value.hint


def test_what_the_admins_provider_raises_passes_through(api):
    issuer = CMzonIssuer("env:CMZON_ADMIN_TOKEN_THAT_IS_NOT_SET", base_url=api.base_url)
    with pytest.raises(TokenNotFound):
        issue(issuer)
    assert api.seen == []
    issuer.close()


def test_an_admin_given_as_uri_is_opened_and_read_just_in_time(api, reply, monkeypatch):
    api.on("DELETE /v1/tokens/tok_1", reply(204))
    issuer = CMzonIssuer("env:CMZON_ADMIN_TOKEN", base_url=api.base_url)
    monkeypatch.setenv("CMZON_ADMIN_TOKEN", "set-after-opening")

    issuer.revoke("tok_1")

    assert api.seen[0].bearer == "set-after-opening"
    issuer.close()


@pytest.mark.parametrize("admin", [None, "", 7])
def test_an_issuer_without_an_admin_says_where_to_name_one(admin):
    with pytest.raises(ConfigurationError) as caught:
        CMzonIssuer(admin)
    assert "CMZON_ADMIN_URI" in caught.value.hint


def test_a_provider_given_as_admin_stays_the_callers_to_close(api):
    admin = Admin(ADMIN)
    CMzonIssuer(admin, base_url=api.base_url).close()
    assert not admin.closed


# ── verify ───────────────────────────────────────────────────────────────────────────────────────

HELD = Token("held-value-5", id="tok_1")


def test_verify_asks_with_the_token_itself_and_returns_what_the_api_says(api, issuer, reply):
    api.on(
        "GET /v1/tokens/self",
        reply(200, entry(last_used_at="2026-11-24T20:30:00.5+00:00", last_used_ip="203.0.113.9")),
    )

    info = issuer.verify(HELD)

    assert api.seen[0].bearer == HELD.reveal()
    assert (info.id, info.name, info.scopes) == ("tok_1", REQUEST.name, ("messages:send",))
    assert info.created_at == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert info.expires_at == datetime(2026, 12, 24, 20, tzinfo=UTC)
    assert info.revoked_at is None
    assert info.last_used_at == datetime(2026, 11, 24, 20, 30, 0, 500_000, tzinfo=UTC)
    assert info.last_used_ip == "203.0.113.9"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, RequestRejected),
        (429, RateLimited),
        (500, ServerError),
    ],
)
def test_verify_raises_what_the_api_says_of_the_token(api, issuer, reply, status, error):
    api.on("GET /v1/tokens/self", reply(status, {"error": {"message": "So it is"}}))

    with pytest.raises(error, match="verifying tok_1") as caught:
        issuer.verify(HELD)

    assert len(api.seen) == 1
    assert HELD.reveal() not in shown(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        [entry()],
        entry(id=None),
        entry(name=None),
        entry(scopes=None),
        entry(last_used_ip=7),
        entry(last_used_ip="\x1b[2J"),
        entry(scopes=["\x1b[2J"]),
        entry(revoked_at="yesterday"),
    ],
)
def test_verify_refuses_an_answer_it_cannot_trust(api, issuer, reply, body):
    api.on("GET /v1/tokens/self", reply(200, body))
    with pytest.raises(IssuerError, match="not as expected"):
        issuer.verify(HELD)


def test_verify_never_needs_the_admin_token(api, reply):
    api.on("GET /v1/tokens/self", reply(200, entry()))
    admin = Admin(ADMIN)
    issuer = CMzonIssuer(admin, base_url=api.base_url)
    issuer.verify(HELD)
    assert admin.reads == 0
    issuer.close()


# ── revoke ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", [HELD, "tok_1"], ids=["token", "id"])
def test_revoke_deletes_by_id_with_the_admin_token(api, issuer, reply, token):
    api.on("DELETE /v1/tokens/tok_1", reply(204))

    issuer.revoke(token)

    (seen,) = api.seen
    assert (seen.method, seen.path, seen.bearer) == (
        "DELETE",
        "/v1/tokens/tok_1",
        ADMIN.reveal(),
    )


@pytest.mark.parametrize("status", [200, 204, 404, 410])
def test_revoking_what_is_revoked_or_unknown_is_no_error(api, issuer, reply, status):
    api.on("DELETE /v1/tokens/tok_1", reply(status, {}))
    issuer.revoke("tok_1")


@pytest.mark.parametrize(("status", "error"), [(400, RequestRejected), (500, ServerError)])
def test_a_revocation_that_failed_is_an_error(api, issuer, reply, status, error):
    api.on("DELETE /v1/tokens/tok_1", reply(status, {}))
    with pytest.raises(error, match="revoking tok_1"):
        issuer.revoke("tok_1")


def test_a_token_with_only_a_fingerprint_is_asked_for_its_id_first(api, issuer, reply):
    pasted = Token("pasted-value-3")
    api.on("GET /v1/tokens/self", reply(200, entry(id="tok_9")))
    api.on("DELETE /v1/tokens/tok_9", reply(204))

    issuer.revoke(pasted)

    assert [(seen.method, seen.bearer) for seen in api.seen] == [
        ("GET", pasted.reveal()),
        ("DELETE", ADMIN.reveal()),
    ]


def test_a_dead_token_with_only_a_fingerprint_needs_no_revoking(api, issuer, reply):
    api.on("GET /v1/tokens/self", reply(401, DEAD))
    issuer.revoke(Token("pasted-value-3"))
    assert [seen.method for seen in api.seen] == ["GET"]


def test_a_fingerprint_that_cannot_be_resolved_is_an_error(api, issuer, reply):
    api.on("GET /v1/tokens/self", reply(403, FORBIDDEN))
    with pytest.raises(PermissionDenied):
        issuer.revoke(Token("pasted-value-3"))


@pytest.mark.parametrize("pasted", [False, True], ids=["its id is known", "pasted"])
def test_the_id_of_the_admin_token_is_told_before_it_is_revoked(api, reply, pasted):
    api.on("GET /v1/tokens/self", reply(200, entry(id="tok_admin")))
    admin = Token(ADMIN.reveal()) if pasted else ADMIN
    with closing(CMzonIssuer(Admin(admin), base_url=api.base_url)) as issuer:
        issuer.check_revocation("tok_1")
        with pytest.raises(ConfigurationError, match="tok_admin — that is the admin token itself"):
            issuer.check_revocation("tok_admin")
    asked = [(seen.method, seen.bearer) for seen in api.seen]
    assert asked == [("GET", ADMIN.reveal())] * 2 * pasted


@pytest.mark.parametrize("status", [401, 403, 500])
def test_where_the_admin_token_cannot_be_asked_an_emergency_goes_on(api, reply, status):
    api.on("GET /v1/tokens/self", reply(status, DEAD))
    with closing(CMzonIssuer(Admin(Token("pasted")), base_url=api.base_url)) as issuer:
        issuer.check_revocation("tok_1")
    assert len(api.seen) == 1


def test_where_the_admin_tokens_place_is_down_an_emergency_goes_on(api):
    class Down(Admin):
        def get(self):
            raise ProviderUnavailable("down", uri=self.uri)

    with closing(CMzonIssuer(Down(), base_url=api.base_url)) as issuer:
        issuer.check_revocation("tok_1")


@pytest.mark.parametrize("token_id", ["", ".", "..", "self", "sha256:0123456789abcdef"])
def test_an_id_that_would_reach_something_else_is_refused(api, issuer, token_id):
    with pytest.raises(IssuerError):
        issuer.revoke(token_id)
    assert api.seen == []


@pytest.mark.parametrize(
    ("token_id", "path"),
    [
        ("a/../../v1/messages", "/v1/tokens/a%2F..%2F..%2Fv1%2Fmessages"),
        ("a?name=b#c", "/v1/tokens/a%3Fname%3Db%23c"),
        ("100%25", "/v1/tokens/100%2525"),
        ("ä", "/v1/tokens/%C3%A4"),
    ],
)
def test_an_id_cannot_climb_out_of_its_path(api, issuer, reply, token_id, path):
    issuer.revoke(token_id)
    assert api.seen[0].path == path


# ── list ─────────────────────────────────────────────────────────────────────────────────────────


def page(*entries, cursor=None):
    return {"data": list(entries), "next_cursor": cursor}


def test_list_goes_through_all_pages(api, issuer, reply):
    api.on(
        "GET /v1/tokens",
        reply(200, page(entry(id="tok_1"), entry(id="tok_2", revoked_at=CREATED), cursor="c/1")),
        reply(200, page(entry(id="tok_3"))),
    )

    found = list(issuer.list(REQUEST.name))

    assert [info.id for info in found] == ["tok_1", "tok_2", "tok_3"]
    assert found[1].revoked_at == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert [seen.path for seen in api.seen] == [
        "/v1/tokens?name=acme-0a1b2c3d",
        "/v1/tokens?name=acme-0a1b2c3d&cursor=c%2F1",
    ]
    assert {seen.bearer for seen in api.seen} == {ADMIN.reveal()}


def test_a_name_cannot_add_parameters(api, issuer, reply):
    api.on("GET /v1/tokens", reply(200, page()))
    assert list(issuer.list("a b&cursor=x#y")) == []
    assert api.seen[0].path == "/v1/tokens?name=a%20b%26cursor%3Dx%23y"


def test_tokens_of_other_names_are_never_listed_even_where_the_api_ignores_the_filter(
    api, issuer, reply
):
    others = [entry(id=f"tok_{n}", name=name) for n, name in enumerate(["acme", "ACME-0A1B2C3D"])]
    api.on("GET /v1/tokens", reply(200, page(*others, entry(id="tok_9"))))
    assert [info.id for info in issuer.list(REQUEST.name)] == ["tok_9"]


def test_a_later_page_is_read_only_when_it_is_wanted(api, issuer, reply):
    api.on("GET /v1/tokens", reply(200, page(entry(), cursor="more")))
    assert next(issuer.list(REQUEST.name)).id == "tok_1"
    assert len(api.seen) == 1


def test_a_cursor_that_repeats_ends_the_listing_with_an_error(api, issuer, reply):
    pages = [reply(200, page(cursor=cursor)) for cursor in ("a", "b", "a")]
    api.on("GET /v1/tokens", *pages)

    with pytest.raises(IssuerError, match="repeats"):
        list(issuer.list(REQUEST.name))

    assert len(api.seen) == 3


def test_a_listing_without_end_ends_with_an_error(api, issuer, reply, monkeypatch):
    monkeypatch.setattr("cmzon_secrets.issuers.cmzon.MAX_PAGES", 5)
    api.on("GET /v1/tokens", lambda seen: reply(200, page(cursor=f"c{len(api.seen)}")))

    with pytest.raises(IssuerError, match="does not end"):
        list(issuer.list(REQUEST.name))

    assert len(api.seen) == 5


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"next_cursor": None},
        {"data": {}, "next_cursor": None},
        {"data": ["tok_1"], "next_cursor": None},
        {"data": [], "next_cursor": 7},
        {"data": [], "next_cursor": ""},
        {"data": [], "next_cursor": "x" * 5000},
        {"data": [entry(id="")], "next_cursor": None},
    ],
)
def test_a_page_that_is_not_as_expected_is_an_error(api, issuer, reply, body):
    api.on("GET /v1/tokens", reply(200, body))
    with pytest.raises(IssuerError, match="not as expected"):
        list(issuer.list(REQUEST.name))


# ── every assumption is a parameter ──────────────────────────────────────────────────────────────


def test_every_path_and_name_of_the_api_can_be_another(api, reply):
    named = TokenAPI(
        tokens_path="/api/keys",
        self_path="/api/me",
        token_path="/api/keys/{id}/revocation",
        name_parameter="label",
        cursor_parameter="after",
        idempotency_header="X-Request-Key",
        id="key_id",
        token="secret",
        name="label",
        scopes="permissions",
        expires_in="ttl",
        allowed_ips="ips",
        created_at="created",
        expires_at="expires",
        revoked_at="revoked",
        last_used_at="used",
        last_used_ip="used_from",
        data="keys",
        next_cursor="next",
    )
    record = {
        "key_id": "k1",
        "label": REQUEST.name,
        "permissions": ["messages:send"],
        "created": CREATED,
        "expires": "2026-12-24T20:00:00Z",
    }
    listed = {**record, "revoked": CREATED, "used": CREATED, "used_from": "203.0.113.9"}
    api.on("POST /api/keys", reply(201, {**record, "secret": VALUE, "ips": ["203.0.113.7"]}))
    api.on("GET /api/me", reply(200, record))
    api.on("GET /api/keys", reply(200, {"keys": [listed], "next": "n"}), reply(200, {"keys": []}))
    api.on("DELETE /api/keys/k1/revocation", reply(204))
    issuer = CMzonIssuer(Admin(ADMIN), base_url=api.base_url, api=named)

    token = issue(issuer)
    assert (token.id, token.reveal()) == ("k1", VALUE)
    assert issuer.verify(token).id == "k1"
    (info,) = issuer.list(REQUEST.name)
    assert info.revoked_at == info.last_used_at == token.issued_at
    assert info.last_used_ip == "203.0.113.9"
    issuer.revoke(token)

    assert api.seen[0].headers["x-request-key"] == "key-1"
    assert set(api.seen[0].body) == {"label", "permissions", "ttl", "ips"}
    assert api.seen[3].path == f"/api/keys?label={REQUEST.name}&after=n"
    assert api.seen[-1].path == "/api/keys/k1/revocation"
    issuer.close()


def test_a_token_path_without_an_id_is_refused():
    with pytest.raises(ConfigurationError, match="token_path"):
        TokenAPI(token_path="/v1/tokens/")


def test_the_registry_opens_it_by_name_with_the_names_of_its_arguments(api):
    issuer = open_issuer(
        "cmzon", admin=Admin(ADMIN), base_url=api.base_url, ca=None, timeout=3.0, api=TokenAPI()
    )
    assert isinstance(issuer, CMzonIssuer)
    assert (issuer.overlap, issuer.lists, issuer.idempotent, issuer.interactive) == (
        True,
        True,
        True,
        False,
    )
    issuer.close()


def test_plain_http_to_another_machine_is_refused_before_anything_is_read():
    admin = Admin(ADMIN)
    with pytest.raises(ConfigurationError, match="plain http"):
        CMzonIssuer(admin, base_url="http://api.cmzon.com")
    assert admin.reads == 0
