"""No token stays in what is kept of a request, wherever it stood and however it was spelled."""

import asyncio
import base64
import json
import logging
import re
import time
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.tokens import deriving
from cmzon_secrets.emulator.http.redaction import (
    fingerprint,
    presented_in,
    shown_headers,
    without_cut_secret,
    without_secrets,
)
from cmzon_secrets.emulator.storage.journal import Journal

TOKEN = "cmz_" + "aB3-_" * 8
FOREIGN = 'token-"of"\\another/shape-é'


def kept(api):
    """Everything that is kept of the requests so far, in every reading, as one text."""
    rows = in_its_thread(api, lambda journal: journal.rows("SELECT * FROM exchanges"))
    raw = "\n".join(str(value) for row in rows for value in row)
    return "\n".join([raw, unescaped(raw), raw.replace("\0", "")])


def everywhere(api):
    """The state as a whole, as the disk would have it."""

    def dump(journal):
        journal.write()
        return "\n".join(journal._db.iterdump())

    return in_its_thread(api, dump)


def in_its_thread(api, ask):
    server = api.emulator._now.server

    async def asked():
        return ask(server._account.journal)

    return asyncio.run_coroutine_threadsafe(asked(), server._loop).result()


def unescaped(text):
    code = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"\\(.)", r"\1", code)


@pytest.fixture
def post(api):
    def posted(body=b"{}", **headers):
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return api.http.post("/v1/messages", content=body, headers=pairs)

    return posted


def bearer(token):
    return f"Bearer {token}".encode()


HEADERS = (
    *("authorization", "Authorization", "AUTHORIZATION", "proxy-authorization"),
    *("cookie", "x-api-key", "X-API-KEY", "apikey", "x-auth-token", "x-client-secret"),
    *("user-agent", "referer", "x-anything", "accept", "idempotency-key"),
)


@pytest.mark.parametrize("around", ["{}", "Bearer {}", "bearer {}", "Token {}", "a={}; b=2"])
def test_a_token_in_any_header_is_kept_as_a_fingerprint_at_most(api, post, around):
    for header in HEADERS:
        post(**{header.replace("-", "_"): around.format(TOKEN)})
        assert TOKEN not in kept(api), header


def test_a_bearer_token_is_shown_by_its_fingerprint_whatever_its_scheme_is_spelled_like():
    for scheme in ("Bearer", "bearer", "BEARER"):
        shown = shown_headers([(b"authorization", f"{scheme} {TOKEN}".encode())])
        assert shown == [("authorization", f"{scheme} <token {fingerprint(TOKEN)}>")]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic", "Token"])
@pytest.mark.parametrize("name", ["x-upstream", "x-auth", "x-session", "referer"])
def test_a_credential_is_hidden_in_a_header_of_any_name(name, scheme):
    ((_, shown),) = shown_headers([(name.encode(), f"{scheme} {FOREIGN}".encode("latin-1"))])
    assert FOREIGN[:8] not in shown
    assert re.search("<(token|hidden) [0-9a-f]{16}>", shown)


@pytest.mark.parametrize("name", ["x-auth", "x-session-id", "cookie", "x-api-key", "apikey"])
def test_a_header_whose_name_promises_a_secret_shows_none(name):
    ((_, shown),) = shown_headers([(name.encode(), b"anything")])
    assert shown == f"<hidden {fingerprint('anything')}>"


def test_what_is_no_secret_is_shown_whole_however_long_it_is(api, post):
    post(x_note="x" * 9000)
    assert "x" * 9000 in kept(api)


def test_the_answer_keeps_its_own_headers_as_they_are(api, post):
    post()
    assert 'Bearer realm="cmzon"' in kept(api)


def test_basic_authentication_is_hidden_and_taken_out_of_the_body(api, post):
    credential = base64.b64encode(b"user:" + FOREIGN.encode()).decode()
    post(json.dumps({"to": credential}).encode(), authorization=f"Basic {credential}")
    assert credential not in kept(api)


def test_of_two_authorization_headers_both_are_hidden_and_taken_out_of_the_body(api):
    first, second = "first-token-of-two", "second-token-of-two"
    api.http.post(
        "/v1/messages",
        content=f"{first} {second}",
        headers=[("Authorization", f"Bearer {first}"), ("Authorization", second)],
    )
    assert first not in kept(api)
    assert second not in kept(api)


def test_a_token_in_a_headers_name_is_taken_out(api, post):
    api.http.post("/v1/messages", headers={f"x-{TOKEN}": "1"})
    assert TOKEN.lower() not in kept(api).lower()


BODIES = (
    lambda token: {"to": token, "type": "text", "text": {"body": "x"}},
    lambda token: {"to": "x" * 40 + token},
    lambda token: {"to": "+1234567890", "type": "text", "text": {"body": f"my token {token}!"}},
    lambda token: {"to": "+1234567890", "type": token, "text": {"body": "x"}},
    lambda token: {"to": "+1234567890", "type": "text", "text": {"body": "x"}, token: 1},
    lambda token: [token, {"a": [token]}],
    lambda token: token,
)


@pytest.mark.parametrize("token", [TOKEN, FOREIGN], ids=["ours", "foreign"])
@pytest.mark.parametrize("encode", ["json", "ascii", "escaped", "utf-16", "cut"])
def test_a_presented_token_in_the_body_is_taken_out_however_it_is_encoded(api, post, token, encode):
    spelled = "".join(f"\\u{ord(c):04X}" for c in token)
    for body in BODIES:
        text = json.dumps(body(token), ensure_ascii=encode != "json")
        if encode == "escaped":
            text = text.replace(json.dumps(token)[1:-1], spelled)
        if encode == "cut":
            text = text[:-2]
        content = text.encode("utf-16" if encode == "utf-16" else "utf-8")
        post(content, authorization=bearer(token))
    for spelling in (token, json.dumps(token)[1:-1], spelled):
        assert spelling not in kept(api)


def test_a_token_of_ours_is_taken_out_also_where_another_one_was_presented(api, post):
    escaped = TOKEN.replace("cmz_", "\\u0063mz\\u005F")
    post(f'{{"a": "{escaped}", "b": "{TOKEN}"}}'.encode(), authorization=bearer(FOREIGN))
    assert TOKEN not in kept(api)
    assert escaped not in kept(api)


def test_a_field_of_that_name_is_taken_out_of_the_note_and_of_the_refusal_too(api, connect):
    answer = api.send(message={"to": "+1234567890", TOKEN: 1})
    assert TOKEN in answer.text  # the sender is told what is wrong
    assert TOKEN not in kept(api)


def test_a_token_in_the_query_is_kept_nowhere(api):
    api.http.post(f"/v1/messages?token={TOKEN}&{TOKEN}=1")
    assert TOKEN not in everywhere(api)


def test_a_token_in_the_path_is_kept_nowhere(api):
    api.http.get(f"/v1/tokens/{TOKEN}")
    assert TOKEN not in everywhere(api)


def test_a_token_through_which_the_end_of_a_body_is_cut_leaves_no_beginning(api, post):
    token = "a-token-of-another-shape"
    padding = b"x" * (64 * 1024 - len(token) + 1)
    post(padding + token.encode(), authorization=bearer(token))
    assert token[:8] not in kept(api)


def test_a_name_that_is_too_long_to_be_repeated_leaves_no_beginning_of_a_token(api, connect):
    with Emulator() as lenient:
        for emulator in (api, connect(lenient)):
            token = emulator.emulator.admin_token
            for before in range(40, 62):
                message = {"to": "+1234567890", "x" * before + token: 1}
                emulator.call("POST", f"/v1/messages?{'x' * before}{token}", json=message)
            assert token[:8] not in kept(emulator)


def test_two_of_which_one_is_the_beginning_of_the_other_are_both_taken_out_whole():
    headers = [
        (b"authorization", b"Bearer abcdefgh"),
        (b"authorization", b"Bearer abcdefgh12345678"),
    ]
    text = without_secrets("abcdefgh12345678", *presented_in(headers))
    assert text == f"<token {fingerprint('abcdefgh12345678')}>"


@pytest.mark.parametrize(
    "text",
    [
        "cmz_",
        "cmz_short",
        "C:\\users\\cmz",
        "line\nbreak \\n and \\u0063",
        'quote \\" and NUL \0',
        "cmz_ followed by words that are longer than sixteen",
    ],
)
def test_what_is_no_token_stays_as_it_is(text):
    assert without_secrets(text, "presented-token") == text


@pytest.mark.parametrize(
    "unit", ["\\", '\\"', "cmz_", "\\u0063mz_", "cmz_\\u0061", "\0", "\\\0", "t\\u006f"]
)
def test_the_longest_body_of_the_worst_kind_takes_no_time_to_speak_of(unit):
    tokens = ('to"ken\\' * 5, "\\" * 40, '"' * 40)
    begun = time.thread_time()  # whatever else the machine does meanwhile
    without_secrets(unit * (64 * 1024 // len(unit)), *tokens)
    assert time.thread_time() - begun < 5.0


def test_it_takes_no_longer_where_much_of_a_text_is_like_a_secret():
    secrets = [f"{'a' * 4000}{number}" for number in range(8)]
    begun = time.thread_time()
    without_secrets("a" * 60_000 + "\\", *secrets)
    assert time.thread_time() - begun < 5.0  # a try at every character takes half a minute


@pytest.mark.parametrize(
    "spelled",
    ["\\u0061b\\/cd12345", "\\a\\b/cd1234\\u0035", "ab/cd12345", "\\u0061\\u0062/cd12345"],
)
def test_a_secret_is_found_however_it_is_spelled_and_nothing_around_it_is_lost(spelled):
    mark = f"<token {fingerprint('ab/cd12345')}>"
    text = "\\n{} \\ud83d\\ude00{}\\u0020\\\\ \\"
    shown = without_secrets(text.format(spelled, spelled), "ab/cd12345")
    assert shown == text.format(mark, mark)


def test_a_secret_of_characters_beyond_the_first_plane_is_found_in_ascii():
    secret = "\U0001f600-secret"
    assert without_secrets(json.dumps(secret), secret) == f'"<token {fingerprint(secret)}>"'


def test_a_short_value_is_no_secret_worth_garbling_the_text_for():
    assert presented_in([(b"authorization", b"Bearer Hello")]) == ()


def test_no_more_is_cut_away_than_the_beginning_of_a_secret():
    assert without_cut_secret("Hello abcdefgh", "abcdefghi") == "Hello "
    assert without_cut_secret("Hello abcdefg", "abcdefghi") == "Hello abcdefg"
    assert without_cut_secret("Hello abcdefghi!", "abcdefghi") == "Hello abcdefghi!"


VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0xFF, blacklist_categories=("Cc", "Zs"))
TOKENS = st.one_of(
    st.text(VISIBLE, min_size=8, max_size=40),
    st.from_regex(r"\Acmz_[A-Za-z0-9_-]{16,43}\Z"),
)
AROUND = st.text(max_size=20)


@settings(max_examples=60)
@given(token=TOKENS, before=AROUND, after=AROUND, ascii=st.booleans(), data=st.data())
@example(token='"""""""""', before="", after="", ascii=True, data=None)
@example(token="\\" * 9, before="\\", after="\\", ascii=True, data=None)
@example(token="\\u0063mz_", before="", after="", ascii=False, data=None)
@example(token="éééééééé", before="", after="", ascii=True, data=None)
def test_no_token_that_was_presented_survives_in_anything_that_is_kept(
    token, before, after, ascii, data
):
    wide = token.encode().decode("latin-1")  # how HTTP has what was sent as UTF-8
    headers = [(b"authorization", b"Bearer " + token.encode()), (b"x-note", token.encode())]
    body = json.dumps({"to": token, "text": {"body": before + token + after}}, ensure_ascii=ascii)
    if data is not None and data.draw(st.booleans()):
        chosen = data.draw(st.sets(st.sampled_from(sorted(set(token)))))
        spelled = "".join(f"\\u{ord(c):04x}" if c in chosen else json.dumps(c)[1:-1] for c in token)
        body = f'{{"to": "{spelled}", "text": {{"body": "{spelled}"}}}}'
    journal = Journal(None)
    account = Account(journal, deriving(b"secret"))
    presented = presented_in(headers)
    account.exchanges.add(
        presented=presented,
        id="req_1",
        at=0.0,
        seconds=0.0,
        status=401,
        message_id=None,
        token_id=None,
        ip="127.0.0.1",
        idempotency_key=wide,
        notes=[f"ignored: {token}"],
        request_headers=shown_headers(headers, *presented),
        request_body=body,
        response_headers=[],
        response_body=body,
    )
    exchange = account.exchanges.get("req_1")
    journal.close()
    texts = [exchange.recipient, exchange.text, exchange.idempotency_key, *exchange.notes]
    texts += [part for pair in exchange.request_headers for part in pair]
    texts += [exchange.request_body, exchange.response_body]
    with suppress(ValueError):  # what is left need not be JSON
        texts += strings_in(json.loads(exchange.request_body))
    for text in texts:
        assert token not in text
        assert wide not in text


def strings_in(parsed):
    if isinstance(parsed, str):
        return [parsed]
    inner = [*parsed, *parsed.values()] if isinstance(parsed, dict) else []
    return [text for value in inner for text in strings_in(value)]


def test_no_token_is_logged(api, post, caplog):
    with caplog.at_level(logging.DEBUG):
        post(TOKEN.encode(), authorization=bearer(TOKEN), x_note=TOKEN)
        api.http.get(f"/v1/tokens/{TOKEN}?{TOKEN}")
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert not any(TOKEN in record.getMessage() for record in ours)
