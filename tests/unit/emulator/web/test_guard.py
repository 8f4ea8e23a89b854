"""Who reaches what: dashboard and controls this machine's own pages and programs, and nobody else, and
the API nothing that a page of another site has sent.

The routes are those of the running application: one that is added is tested by that.
"""

import asyncio
import re
import socket
import time

import pytest
from starlette.routing import Route

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.api import make_app
from cmzon_secrets.emulator.responder import Responder

FORM = "application/x-www-form-urlencoded"
OPENED = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
CLICK = {**OPENED, "Sec-Fetch-User": "?1"}


@pytest.fixture
def routes(api):
    """Method and path of everything that only this machine may call."""
    account = api.emulator._now.server._account
    found = [
        (method, re.sub(r"{[^}]*}", "x", route.path))
        for route in make_app(account, Responder(account)).routes
        if isinstance(route, Route) and re.match("/dashboard|/_emulator", route.path)
        for method in route.methods - {"HEAD"}
    ]
    assert len(found) > 20  # it finds them
    return found


@pytest.fixture
def state(api):
    """What must not change: everything but the record of requests."""

    def seen():
        asked = ("/_emulator/stats", "/_emulator/faults", "/_emulator/limits")
        answers = [api.http.get(path).json() for path in asked]
        answers.append(api.http.get("/_emulator/clock").json()["shift"])
        answers[0].pop("by_status")
        listed = api.call("GET", "/v1/tokens").json()["data"]
        answers.append(
            [(token["id"], token["expires_at"], token["revoked_at"]) for token in listed]
        )
        return answers

    return seen


def csrf_of(api):
    """The value that the forms of the dashboard carry."""
    for path in ("/dashboard/tokens", "/dashboard/rehearse"):
        found = re.search(r'name="csrf" value="([^"]+)"', api.http.get(path).text)
        if found is not None:
            return found[1]
    pytest.fail("no page has a form")


FOREIGN = {
    "a Host that is not this machine": {"Host": "evil.example"},
    "a Host that begins like it": {"Host": "127.0.0.1.evil.example"},
    "a Host that names it as a user": {"Host": "127.0.0.1@evil.example"},
    "a Host with a user": {"Host": "user@127.0.0.1"},
    "a Host with a query": {"Host": "127.0.0.1?'$(id)'"},
    "a Host with a path": {"Host": "127.0.0.1/"},
    "a Host with a port that is none": {"Host": "127.0.0.1:80x"},
    "no Host to speak of": {"Host": ""},
    "the Origin of another site": {"Origin": "https://evil.example"},
    "the Origin of a site that begins like it": {"Origin": "http://localhost.evil.example"},
    "the Origin null": {"Origin": "null"},
    "the Origin of another port": {"Origin": "http://127.0.0.1:1"},
    "a fetch from another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    "a picture on another site": {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "no-cors",
        "Sec-Fetch-Dest": "image",
    },
    "a frame on another site": {**CLICK, "Sec-Fetch-Dest": "iframe"},
    "a page that another site opens by itself": OPENED,
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_no_route_answers(api, routes, state, headers):
    before = state()
    for method, path in routes:
        answer = api.http.request(method, path, headers=headers)
        assert answer.status_code in (400, 403), (method, path)
        assert "set-cookie" not in answer.headers
        assert "csrf" not in answer.text
    assert state() == before


def test_no_answer_lets_another_origin_read_it(api, routes):
    for method, path in routes:
        if method == "GET" and path != "/dashboard/events":
            answer = api.http.get(path)
            assert "access-control-allow-origin" not in answer.headers, path
        preflight = {"Origin": "http://localhost:1", "Access-Control-Request-Method": method}
        assert api.http.options(path, headers=preflight).status_code in (403, 405), path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]", "[::1]:80"])
def test_every_name_of_this_machine_is_one(api, host):
    assert api.http.get("/dashboard", headers={"Host": host}).status_code == 200


def test_a_link_on_another_site_opens_a_page_and_nothing_else(api, routes, state):
    before = state()
    for method, path in routes:
        if path == "/dashboard/events":
            continue
        status = api.http.request(method, path, headers=CLICK).status_code
        opens = method == "GET" and path.startswith("/dashboard")
        assert (status == 403) == (not opens), (method, path)
    assert state() == before


A_PAGE_ON_THE_WEB = {
    "posts blindly": {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    "posts in a browser that does not tell more": {"Origin": "http://evil.example"},
    "hides where it is from": {"Origin": "null"},
    "was rebound": {"Origin": "http://127.0.0.1.evil.example:80"},
    "was rebound, and asks in its own name": {
        "Host": "evil.example:8025",
        "Origin": "http://evil.example:8025",
        "Sec-Fetch-Site": "same-origin",
    },
    "was rebound, and reads": {"Host": "evil.example:8025", "Sec-Fetch-Site": "same-origin"},
    "was rebound, and reads by http": {"Host": "evil.example:8025", "Accept-Language": "en-US"},
    "shows a picture": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "links here": CLICK,
}


@pytest.mark.parametrize("headers", A_PAGE_ON_THE_WEB.values(), ids=A_PAGE_ON_THE_WEB)
def test_of_what_a_page_on_the_web_sends_to_the_api_nothing_is_left(api, headers):
    api.fault(status=500, count=1)
    asked = [("POST", "/v1/messages"), ("GET", "/v1/tokens"), ("GET", "/v1/nowhere")]
    asked += [("GET", "/"), ("GET", "/_emulator/stats/"), ("GET", "/oauth/authorize")]
    before = api.stats()
    for method, path in asked:
        answer = api.http.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert "/v1" not in answer.text
        assert answer.headers["x-request-id"]
        assert api.call(method, path, headers=headers).status_code == 403  # with a token, too
    assert api.stats() == before
    assert api.http.get("/_emulator/messages").json() == {"data": []}
    assert api.send().status_code == 500  # the fault is still there
    assert len(api.call("GET", "/v1/audit").json()["data"]) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://[::1]:8443"},
        {"Sec-Fetch-Site": "none"},
        {"Accept-Language": "de", "Host": "localhost:8025"},
        {"Host": "api.cmzon.test", "User-Agent": "curl/8.5.0"},
        {},
    ],
)
def test_a_page_of_this_machine_and_a_program_may_call_the_api(api, headers):
    answer = api.call(
        "POST",
        "/v1/messages",
        json={"to": "+1234567890", "type": "text", "text": {"body": "x"}},
        headers=headers,
    )
    assert answer.status_code == 200


def test_no_control_lets_a_browser_take_its_answer_for_anything_else(api, routes):
    for method, path in routes:
        if method == "GET" and path.startswith("/_emulator"):
            headers = api.http.get(path).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["cross-origin-resource-policy"] == "same-origin", path


def test_every_page_says_what_a_browser_may_load_and_that_nobody_may_frame_it(api, routes):
    for method, path in routes:
        if method == "GET" and path.startswith("/dashboard") and path != "/dashboard/events":
            headers = api.http.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"


def bad_posts(csrf, base_url):
    """Ways to send a form that no page of ours sends: what is wrong, headers, body."""
    port = int(base_url.rsplit(":", 1)[1])
    good = f"csrf={csrf}"
    return {
        "no csrf": ({}, "name=x"),
        "an empty body": ({}, ""),
        "a csrf that is wrong": ({}, f"csrf={'x' * len(csrf)}"),
        "a csrf that is cut": ({}, good[:-1]),
        "a csrf that is not ASCII": ({}, "csrf=%C3%A9"),
        "the right csrf after a wrong one": ({}, f"csrf=x&{good}"),
        "an Origin with another port": ({"Origin": f"http://127.0.0.1:{port + 1}"}, good),
        "an Origin with another scheme": ({"Origin": f"https://127.0.0.1:{port}"}, good),
        "an Origin with another name": ({"Origin": f"http://localhost:{port}"}, good),
        "an Origin that is null": ({"Origin": "null"}, good),
        "a body of 65 KiB": ({}, f"{good}&x={'x' * 65 * 1024}"),
        "a thousand fields": ({}, good + "&x=1" * 1000),
        "bytes that are not UTF-8": ({}, f"{good}&name=".encode() + b"\xff"),
        "escapes that are not UTF-8": ({}, f"{good}&name=%FF"),
        "a multipart body": (
            {"Content-Type": "multipart/form-data; boundary=b"},
            f'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n--b--\r\n',
        ),
        "a JSON body": ({"Content-Type": "application/json"}, f'{{"csrf": "{csrf}"}}'),
    }


def test_no_form_is_taken_that_no_page_of_ours_sends(api, routes, state):
    csrf = csrf_of(api)
    forms = [path for method, path in routes if method == "POST" and "/dashboard" in path]
    assert len(forms) > 5
    before = state()
    for why, (headers, body) in bad_posts(csrf, api.emulator.base_url).items():
        for path in forms:
            answer = api.http.post(path, content=body, headers={"Content-Type": FORM, **headers})
            assert 400 <= answer.status_code < 500, (why, path)
            assert csrf not in answer.headers.get("location", "")
    assert state() == before


def test_of_a_field_that_is_there_twice_the_first_counts(api):
    csrf = csrf_of(api)
    fields = f"csrf={csrf}&csrf=x&name=first&name=second&scopes=messages%3Asend"
    answer = api.http.post("/dashboard/tokens", content=fields, headers={"Content-Type": FORM})
    assert answer.status_code < 400
    names = [token["name"] for token in api.call("GET", "/v1/tokens").json()["data"]]
    assert names[1:] == ["first"]


def test_the_csrf_value_is_another_one_at_every_start(tmp_path, connect):
    values = set()
    for _ in range(2):
        with Emulator(state=tmp_path) as emulator:
            values.add(csrf_of(connect(emulator)))
    assert len(values) == 2


class Stream:
    """A browser that listens to the events."""

    def __init__(self, emulator, **headers):
        port = int(emulator.base_url.rsplit(":", 1)[1])
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        request = ("GET /dashboard/events HTTP/1.1\r\n", f"Host: 127.0.0.1:{port}\r\n", *lines)
        self.socket.sendall("".join([*request, "\r\n"]).encode())

    def until(self, wanted):
        received = b""
        while wanted not in received:
            more = self.socket.recv(4096)
            if not more:
                break
            received += more
        return received

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_events_tell_the_topic_of_a_change_and_nothing_of_it(api):
    with Stream(api.emulator) as stream:
        stream.until(b"retry:")
        api.send(message={"to": "+1999", "type": "text", "text": {"body": "private"}})
        told = stream.until(b"messages")
    assert b"event: changed" in told
    assert b"private" not in told
    assert b"+1999" not in told


def test_events_cannot_be_read_by_another_origin(api):
    port = api.emulator.base_url.rsplit(":", 1)[1]
    for other in ("http://evil.example", f"http://localhost:{port}", f"https://127.0.0.1:{port}"):
        with Stream(api.emulator, Origin=other) as stream:
            assert stream.until(b"\r\n\r\n").startswith(b"HTTP/1.1 403")
    with Stream(api.emulator) as stream:
        head = stream.until(b"retry:").lower()
    assert b"access-control-allow-origin" not in head
    assert b"cross-origin-resource-policy: same-origin" in head


def test_twenty_streams_are_told_and_end_when_the_emulator_stops(api):
    streams = [Stream(api.emulator) for _ in range(20)]
    for stream in streams:
        stream.until(b"retry:")
    api.send()
    for stream in streams:
        assert b"messages" in stream.until(b"messages")
    api.emulator.stop()
    for stream in streams:
        stream.until(b"nothing more")  # which ends with the stream
        stream.socket.close()


def test_a_browser_that_leaves_is_forgotten_and_nothing_is_logged(api):
    watchers = api.emulator._now.server._account.changes._watchers
    for _ in range(5):
        with Stream(api.emulator) as stream:
            stream.until(b"retry:")
    end = time.monotonic() + 10
    while watchers and time.monotonic() < end:
        api.send()
    assert not watchers


def test_a_browser_that_never_reads_costs_no_memory_and_delays_nobody(api):
    with Stream(api.emulator) as deaf, Stream(api.emulator) as other:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        other.until(b"retry:")
        server = api.emulator._now.server

        async def change_often():
            for _ in range(100_000):
                server._account.changes.tell("messages")
            return [len(watcher._changed) for watcher in server._account.changes._watchers]

        told = asyncio.run_coroutine_threadsafe(change_often(), server._loop).result()
        assert told == [1, 1]  # what is kept for them is a set of topics
        assert api.send().status_code == 200
        assert b"messages" in other.until(b"messages")
