"""Requests that no decent client sends: each is answered, none with 500, and no connection stays open."""

import json
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.http.fields import parse_object

BODY = b'{"to": "+1234567890", "type": "text", "text": {"body": "Hello"}}'
PATHS = ["/v1/messages", "/v1/tokens", "/_emulator/stats", "/openapi.json", "/dashboard", "/none"]


@pytest.fixture
def lenient(connect: Any) -> Any:
    """Not strict: unknown fields get further in."""
    with Emulator() as emulator:
        yield connect(emulator)


def raw(api: Any, request: bytes, *, end: bool = False) -> bytes:
    """All that comes back until the emulator closes the connection, which is waited for.

    ``end``: no more is sent after the request.
    """
    place = urlsplit(api.emulator.base_url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def asked(api: Any, line: str, *headers: str, body: bytes = b"", end: bool = False) -> bytes:
    """The answer to a request with the admin token."""
    own = [f"Host: {urlsplit(api.emulator.base_url).netloc}", "Connection: close"]
    own.append(f"Authorization: Bearer {api.emulator.admin_token}")
    if body and not any("length" in h.lower() or "transfer" in h.lower() for h in headers):
        own.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{line} HTTP/1.1", *own, *headers, "", ""])
    return raw(api, head.encode("latin-1") + body, end=end)


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    assert found, answer[:200]
    return int(found[1])


def details(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["details"])


def allowed(answer: bytes) -> set[str]:
    found = re.search(rb"(?im)^allow: (.*?)\r$", answer)
    assert found, answer
    return set(found[1].decode().split(", "))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "CONNECT", "get", "XYZ"])
def test_a_method_that_is_not_served_is_refused(api, method, path):
    expected = 404 if path == "/none" else 405
    assert status(asked(api, f"{method} {path}")) == expected


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/messages", {"POST"}),
        ("/v1/tokens", {"GET", "HEAD", "POST"}),
        ("/v1/tokens/self", {"GET", "HEAD"}),
        ("/v1/tokens/tok_0", {"DELETE"}),
        ("/_emulator/faults", {"GET", "HEAD", "POST", "DELETE"}),
        ("/_emulator/messages/wait", {"POST"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_a_405_names_every_method_of_its_path(api, path, methods):
    assert allowed(asked(api, f"OPTIONS {path}")) == methods


@pytest.mark.parametrize("path", ["/v1/tokens", "/_emulator/stats", "/openapi.json", "/dashboard"])
def test_head_is_get_without_the_body(api, path):
    answer = asked(api, f"HEAD {path}")
    assert status(answer) == 200
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"to=%2B1234567890&type=text", "body — it is not JSON in UTF-8"),
        (b"\xef\xbb\xbf" + BODY, "body — it is not JSON in UTF-8"),
        (BODY.decode().encode("utf-16"), "body — it is not JSON in UTF-8"),
        (BODY.decode().encode("utf-16-le"), "body — it is not JSON in UTF-8"),
        (BODY.decode().encode("utf-32"), "body — it is not JSON in UTF-8"),
        (BODY.replace(b"Hello", b"\xff"), "body — it is not JSON in UTF-8"),
        (BODY + BODY, "body — it is not JSON in UTF-8"),
        (b'{"to": Infinity}', "body — it is not JSON in UTF-8"),
        (b'{"to": 1' + b"0" * 5000 + b"}", "body — it is not JSON in UTF-8"),
        (b'{"to": 1e999}', "to — a string"),
        (BODY.replace(b'"type"', b'"to"'), "to — it is given twice"),
        (BODY.replace(b'"Hello"', b'"1", "body": "2"'), "body — it is given twice"),
        (BODY.replace(b"Hello", b"\\ud800"), "text.body — it is not valid Unicode"),
        (BODY.replace(b'"to"', b'"\\ud800"'), "? — unknown"),
        (BODY.replace(b'"to"', b'"\\u0000"'), "? — unknown"),
        (b"x" * 1_000_000, "body — longer than 65536 bytes"),
    ],
    ids=[
        *("form", "bom", "utf-16", "utf-16-le", "utf-32", "latin-1", "two", "infinity", "digits"),
        *("1e999", "twice", "twice-within", "surrogate", "surrogate-name", "nul-name", "megabyte"),
    ],
)
def test_a_body_that_no_client_should_send_is_refused_with_the_reason(api, body, complaint):
    answer = asked(api, "POST /v1/messages", body=body)
    assert status(answer) == (413 if len(body) > 65536 else 400)
    assert details(answer).startswith(complaint)
    assert api.messages() == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tokens", b'{"name": "a", "scopes": ["audit:read"], "expires_in": %s}'),
        ("/_emulator/clock", b'{"advance": %s}'),
        ("/_emulator/limits", b'{"per_day": %s}'),
        ("/_emulator/messages/wait", b'{"timeout": %s}'),
        ("/_emulator/messages/wait", b'{"timeout": 0, "status": %s}'),
        ("/_emulator/messages/wait", b'{"timeout": 0, "after": %s}'),
        ("/_emulator/faults", b'{"route": "POST /v1/messages", "latency": %s}'),
        ("/_emulator/faults", b'{"route": "POST /v1/messages", "status": 500, "count": %s}'),
        ("/_emulator/faults", b'{"route": "POST /v1/messages", "status": 500, "seed": %s}'),
    ],
)
@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 400, b"NaN", b"true"])
def test_numbers_that_are_none_or_beyond_measure_are_refused(api, path, body, number):
    assert status(asked(api, f"POST {path}", body=body % number)) == 400


@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
@pytest.mark.parametrize("key", ["", "Idempotency-Key: {}"], ids=["plain", "idempotent"])
def test_a_nested_body_is_taken_or_refused_at_any_depth(lenient, nest, key):
    lenient.control("limits", per_second=None)
    found = set()
    for depth in (1, 100, *range(900, 1100, 5), 5_000, 10_000):
        inner = nest[0] * depth + b"1" + nest[1] * depth
        body = BODY[:-1] + b', "ignored": ' + inner + b"}"
        headers = [key.format(depth)] if key else []
        found.add(status(asked(lenient, "POST /v1/messages", *headers, body=body)))
    assert found == {200, 400}


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (["Content-Length: 5"], BODY, 400),
        (["Content-Length: -5"], BODY, 400),
        (["Content-Length: 5", "Content-Length: 6"], BODY, 400),
        (["Content-Length: 9999999999999999999999"], BODY, 400),
        (["Content-Length: 5000"], BODY, None),
        (["Transfer-Encoding: chunked"], b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), 200),
        (["Transfer-Encoding: chunked"], b"zz\r\n", 400),
        (["Transfer-Encoding: chunked"], b"ff\r\nabc", None),
        (
            ["Transfer-Encoding: chunked"],
            b"10000\r\n%s\r\n" % (b"x" * 65536) * 20 + b"0\r\n\r\n",
            413,
        ),
        (["Transfer-Encoding: gzip"], BODY, 400),
        (["Expect: 100-continue"], BODY, 100),
        (["Content-Type: text/plain; charset=utf-16"], BODY, 200),
        (["Idempotency-Key: \xff"], BODY, 400),
        (["Idempotency-Key: a", "Idempotency-Key: b"], BODY, 400),
        (["Authorization: Bearer another"], BODY, 401),
    ],
    ids=[
        *("shorter", "negative", "two-lengths", "endless", "longer", "chunked", "bad-chunk"),
        *("cut-chunk", "large-chunks", "gzip", "continue", "charset", "latin-1-key", "two-keys"),
        "two-tokens",
    ],
)
def test_a_length_or_a_header_that_lies_is_refused_and_the_connection_closed(
    api, headers, body, expected
):
    answer = asked(api, "POST /v1/messages", *headers, body=body, end=True)
    assert (status(answer) if answer else None) == expected
    assert api.send().status_code == 200  # to others it makes no difference


def test_a_name_that_is_there_twice_among_very_many_is_found_in_one_pass():
    names = [f'"{number}": 0' for number in range(60_000)]
    body = "{" + ", ".join([*names, names[-1]]) + "}"
    begun = time.thread_time()
    with pytest.raises(Refusal) as refused:
        parse_object(body.encode())
    assert refused.value.details == "59999 — it is given twice"
    assert time.thread_time() - begun < 5.0  # a pass for each name takes minutes


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        (["X-Note: " + "x" * 17_000], "headers — longer than 16384 bytes together"),
        ([f"X-{n}: {'x' * 100}" for n in range(160)], "headers — longer than 16384 bytes together"),
        (["Proxy-Authorization: " + "x" * 5000], "Authorization — longer than 4096 bytes"),
        (["Proxy-Authorization: Basic eA=="] * 8, "Authorization — more than 8"),
    ],
    ids=["one-header", "many-headers", "credential", "credentials"],
)
@pytest.mark.parametrize("line", ["POST /v1/messages", "GET /nowhere"])
def test_larger_headers_than_any_client_sends_are_refused_and_not_kept(
    api, line, headers, complaint
):
    answer = asked(api, line, *headers)
    assert status(answer) == 431
    assert details(answer) == complaint
    assert api.http.get("/_emulator/messages").json() == {"data": []}


def test_headers_that_never_end_are_refused(api):
    answer = raw(api, b"GET /v1/tokens HTTP/1.1\r\nX-Note: " + b"x" * 20_000)
    assert status(answer) == 400


def test_who_sends_far_too_much_still_gets_the_answer(api):
    answer = asked(api, "POST /v1/messages", body=b"x" * 12_000_000)
    assert status(answer) == 413
    assert details(answer) == "body — longer than 65536 bytes"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1//messages", {404}),
        ("//v1/tokens", {404}),
        ("/v1/tokens/", {404}),
        ("/v1/tokens/a%2Fb", {404}),
        ("/v1/tokens/%2e%2e", {204, 405}),
        ("/v1/tokens/%ff%00", {204, 405}),
        ("/v1/tokens/%zz", {204, 405}),
        ("/_emulator/messages/%00", {404, 405}),
        ("/_emulator/snapshots/%2e%2e%2femulator", {404}),
        ("http://elsewhere/v1/tokens", {404}),
        ("*", {404}),
        ("/" + "y" * 60_000, {404}),
    ],
)
def test_an_odd_path_is_an_unknown_one_or_an_unknown_id(api, method, path, expected):
    assert status(asked(api, f"{method} {path}")) in expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name", 200),
        ("name=%00", 200),
        ("name=%ff", 200),
        ("name=a&name=b", 400),
        ("cursor=%00", 400),
        ("%ff=1", 400),
        ("&&&", 200),
    ],
)
def test_an_odd_query_is_answered(api, query, expected):
    assert status(asked(api, f"GET /v1/tokens?{query}")) == expected


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "", "127.0.0.1.example.com", "\xff"])
@pytest.mark.parametrize("path", PATHS)
def test_an_odd_host_is_answered_and_gets_nowhere_but_to_the_api(api, host, path):
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    expected = {"/v1/messages": {405, 400}, "/v1/tokens": {401, 400}, "/none": {404, 400}}
    assert status(raw(api, request.encode("latin-1"))) in expected.get(path, {403, 400})


@pytest.mark.parametrize(
    "noise",
    [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\x00" * 100],
    ids=["blank", "tls", "no-path", "nul"],
)
def test_what_is_no_http_is_answered_as_such(api, noise):
    assert status(raw(api, noise, end=True)) == 400
