"""ManualIssuer: what a person is told and asked, and how life and death of a token are found out."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import (
    AuthenticationError,
    InvalidToken,
    IssuerError,
    RateLimited,
    ServerError,
    TransportError,
)
from cmzon_secrets.issuer import TokenRequest
from cmzon_secrets.issuers.manual import ManualIssuer
from cmzon_secrets.registry import open_issuer
from cmzon_secrets.tokens import Token

NOW = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)
REQUEST = TokenRequest(
    "acme-0a1b2c3d", ("messages:send", "audit:read"), timedelta(days=30), ("203.0.113.7",)
)
VALUE = "pasted-value-91e2"
HELD = Token("held-value-5", scopes=("messages:send",), issued_at=NOW)


class StoppedClock(Clock):
    def now(self):
        return NOW


class Person:
    """Types the given lines when asked, and remembers what was said."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.heard = []
        self.prompts = []

    def ask(self, prompt):
        self.prompts.append(prompt)
        return self.lines.pop(0)

    def tell(self, text):
        self.heard.append(text)


@pytest.fixture
def make(api):
    made = []

    def make(*lines):
        person = Person(*lines)
        issuer = ManualIssuer(
            base_url=api.base_url, ask=person.ask, tell=person.tell, clock=StoppedClock()
        )
        made.append(issuer)
        return issuer, person

    yield make
    for issuer in made:
        issuer.close()


def issue(issuer, request=REQUEST):
    return issuer.issue(request, idempotency_key="unused")


# ── issue ────────────────────────────────────────────────────────────────────────────────────────


def test_the_person_is_told_where_to_go_and_all_that_is_to_be_chosen(make):
    issuer, person = make(VALUE)

    issue(issuer)

    (told,) = person.heard
    for part in (
        '"API Settings" → "Generate New Token"',
        "acme-0a1b2c3d",
        "messages:send, audit:read",
        "203.0.113.7",
        "30 days",
    ):
        assert part in told


def test_what_is_not_restricted_is_told_as_such(make):
    issuer, person = make(VALUE)
    token = issue(issuer, TokenRequest("acme"))
    assert "no restriction" in person.heard[0]
    assert "never" in person.heard[0]
    assert token.expires_at is None


def test_the_typed_token_carries_what_was_asked_for(make):
    issuer, _ = make(VALUE)

    token = issue(issuer)

    assert token.reveal() == VALUE
    assert not token.has_issuer_id
    assert token.scopes == REQUEST.scopes
    assert token.issued_at == NOW
    assert token.expires_at == NOW + timedelta(days=30)
    assert token.allowed_ips == ("203.0.113.7",)


def test_a_lifetime_may_be_given_in_seconds(make):
    issuer, _ = make(VALUE)
    token = issue(issuer, TokenRequest("acme", expires_in=90.0))
    assert token.expires_at == NOW + timedelta(seconds=90)


@pytest.mark.parametrize("line", [f"{VALUE}\n", f"{VALUE}\r\n", f"  {VALUE} \n"])
def test_blanks_and_line_ends_around_a_pasted_token_do_no_harm(make, line):
    issuer, _ = make(line)
    assert issue(issuer).reveal() == VALUE


@pytest.mark.parametrize("line", ["", "\n", "   \n"])
def test_nothing_typed_is_one_clear_error(make, line):
    issuer, _ = make(line)
    with pytest.raises(IssuerError, match="nothing was given"):
        issue(issuer)


@pytest.mark.parametrize("line", [f"{VALUE} {VALUE}", f'"{VALUE}"', f"Bearer {VALUE}", VALUE * 400])
def test_what_is_no_token_is_refused_and_never_shown(make, line):
    issuer, _ = make(line)

    with pytest.raises(InvalidToken) as caught:
        issue(issuer)

    frames = traceback.walk_tb(caught.value.__traceback__)
    ours = [repr(f.f_locals) for f, _ in frames if f.f_code.co_filename != __file__]
    assert ours
    assert VALUE not in "".join([*ours, repr(caught.value), str(vars(caught.value))])


# ── the defaults: a terminal, or standard input ──────────────────────────────────────────────────

ASK_ON_DEFAULTS = """
from cmzon_secrets import ManualIssuer, TokenRequest
from cmzon_secrets.errors import CMzonSecretsError
try:
    token = ManualIssuer().issue(TokenRequest("acme"), idempotency_key="k")
    print("got", token.fingerprint)
except CMzonSecretsError as error:
    print("refused", type(error).__name__, error.message)
"""


def run_on_pipe(text):
    return subprocess.run(
        [sys.executable, "-c", ASK_ON_DEFAULTS],
        input=text,
        check=False,
        capture_output=True,
        timeout=60,
    )


def test_without_a_terminal_one_line_of_standard_input_is_the_token():
    done = run_on_pipe(VALUE.encode() + b"\nsecond line\n")
    assert done.stdout.decode().strip() == f"got {Token(VALUE).fingerprint}"
    assert "Generate New Token" in done.stderr.decode()
    assert VALUE not in done.stderr.decode()


@pytest.mark.parametrize(
    ("typed", "error"),
    [(b"", "IssuerError"), (b"\n", "IssuerError"), (b"\xff\xfe\n", "InvalidToken")],
)
def test_standard_input_that_holds_no_token_is_one_clear_error(typed, error):
    done = run_on_pipe(typed)
    assert done.stdout.decode().startswith(f"refused {error}")
    assert done.stderr.decode().count("Traceback") == 0


def test_a_closed_standard_input_is_one_clear_error():
    done = subprocess.run(
        [sys.executable, "-c", "import os, sys; os.close(0); sys.stdin = None\n" + ASK_ON_DEFAULTS],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.decode().startswith("refused IssuerError")


def test_at_a_terminal_the_token_is_typed_without_echo():
    screen = on_a_terminal(VALUE + "\n")
    assert f"got {Token(VALUE).fingerprint}" in screen
    assert "New token (not shown):" in screen
    assert VALUE not in screen


def test_the_end_of_input_at_a_terminal_is_one_clear_error():
    assert "refused IssuerError" in on_a_terminal("\x04")


def on_a_terminal(typed):
    """All that a terminal shows while ASK_ON_DEFAULTS runs in it and ``typed`` is typed."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", ASK_ON_DEFAULTS])
    screen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if typed and b"(not shown): " in screen:
            os.write(terminal, typed.encode())
            typed = ""
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                screen += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
    os.close(terminal)
    os.waitpid(child, 0)
    return screen.decode()


# ── verify ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [400, 403, 404, 409, 415, 422])
def test_any_refusal_but_401_of_an_empty_message_shows_a_live_token(api, make, reply, status):
    api.on("POST /v1/messages", reply(status, {"error": {"code": status}}))
    issuer, _ = make()

    info = issuer.verify(HELD)

    assert info.id == HELD.id
    (seen,) = api.seen
    assert (seen.bearer, seen.body) == (HELD.reveal(), {})


def test_401_is_a_dead_token(api, make, reply):
    api.on("POST /v1/messages", reply(401, {"error": {"message": "Invalid API token"}}))
    issuer, _ = make()
    with pytest.raises(AuthenticationError, match=HELD.id):
        issuer.verify(HELD)


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (500, ServerError)])
def test_an_api_too_busy_to_tell_proves_nothing(api, make, reply, status, error):
    api.on("POST /v1/messages", reply(status, {}))
    issuer, _ = make()
    with pytest.raises(error):
        issuer.verify(HELD)


def test_no_answer_proves_nothing(api, make, reply):
    api.on("POST /v1/messages", reply(hang_up=True))
    issuer, _ = make()
    with pytest.raises(TransportError):
        issuer.verify(HELD)


@pytest.mark.parametrize("status", [200, 202, 302])
def test_an_empty_message_that_is_not_refused_is_an_error(api, make, reply, status):
    api.on("POST /v1/messages", reply(status, {}))
    issuer, _ = make()
    with pytest.raises(IssuerError, match="must refuse"):
        issuer.verify(HELD)


# ── revoke, list ─────────────────────────────────────────────────────────────────────────────────


def test_the_person_is_told_which_token_to_revoke_without_its_value(api, make, reply):
    api.on("POST /v1/messages", reply(400, {}))
    issuer, person = make()

    issuer.revoke(HELD)

    (told,) = person.heard
    assert f"sha256:{HELD.fingerprint}" in told
    assert "2026-11-24 21:00 UTC" in told
    assert HELD.reveal() not in told


def test_the_id_is_told_where_the_issuer_gave_one(api, make, reply):
    api.on("POST /v1/messages", reply(400, {}))
    issuer, person = make()
    issuer.revoke(Token("held-value-6", id="tok_6"))
    assert "tok_6" in person.heard[0]


def test_a_token_revoked_already_is_not_mentioned_again(api, make, reply):
    api.on("POST /v1/messages", reply(401, {}))
    issuer, person = make()
    issuer.revoke(HELD)
    assert person.heard == []


@pytest.mark.parametrize("answer", [{"hang_up": True}, {"status": 503}, {"status": 200}])
def test_a_token_of_unknown_state_is_mentioned(api, make, reply, answer):
    api.on("POST /v1/messages", reply(**answer))
    issuer, person = make()
    issuer.revoke(HELD)
    assert len(person.heard) == 1


def test_a_token_may_be_named_by_id(api, make):
    issuer, person = make()
    issuer.revoke("tok_1")
    assert "tok_1" in person.heard[0]
    assert api.seen == []


def test_listing_is_refused_at_once_because_only_the_dashboard_can(make):
    issuer, _ = make()
    with pytest.raises(IssuerError, match="only the dashboard"):
        issuer.list("acme")


def test_it_declares_what_it_cannot_do():
    issuer = open_issuer("manual", base_url="https://api.cmzon.com", timeout=3.0)
    assert isinstance(issuer, ManualIssuer)
    assert issuer.overlap
    assert issuer.interactive
    assert not issuer.lists
    assert not issuer.idempotent
    issuer.close()
