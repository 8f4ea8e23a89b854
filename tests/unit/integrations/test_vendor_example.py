"""``CMzonAPI`` beside the class of the vendor's page: the same requests, results and exceptions."""

from __future__ import annotations

import os
import re
import socket
import threading
import traceback
from contextlib import contextmanager

import pytest

from cmzon_secrets import Token, TokenCache
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import (
    ConfigurationError,
    InvalidToken,
    InvalidURI,
    ProviderUnavailable,
)
from unit.client.conftest import ACCEPTED, REFUSED, Reply

requests = pytest.importorskip("requests", reason="not run: requests (not installed)")
from cmzon_secrets.integrations import vendor_example  # noqa: E402
from cmzon_secrets.integrations.vendor_example import CMzonAPI  # noqa: E402
from unit.integrations import vendor_page  # noqa: E402  # it needs requests

TO, TEXT = "+4915112345678", "Grüße & \u2028 \U0001f600"
FIRST, SECOND = Token("cmz_first_value", id="tok_1"), Token("cmz_second_value", id="tok_2")

ERROR = {"error": {"code": 0, "message": "no", "details": "because"}}
HTML = b"<html>502 Bad Gateway</html>"
ANSWERS = {
    "accepted": ACCEPTED,
    "200 null": Reply(200, b"null"),
    "200 list": Reply(200, [1, 2]),
    "200 empty": Reply(200),
    "200 HTML": Reply(200, HTML, {"Content-Type": "text/html"}),
    "200 Latin-1": Reply(200, b'{"id": "\xfc"}'),
    "204": Reply(204),
    "304": Reply(304),
    "400": Reply(400, ERROR),
    "401": REFUSED,
    "401 HTML": Reply(401, HTML),
    "403": Reply(403, ERROR),
    "404": Reply(404, ERROR),
    "429": Reply(429, ERROR, {"Retry-After": "60"}),
    "429 empty": Reply(429),
    "500": Reply(500, ERROR),
    "500 HTML": Reply(502, HTML),
    "reset": Reply(fault="reset"),
    "closed": Reply(fault="close"),
    "cut short": Reply(200, b"{}", {"Content-Length": "100", "Connection": "close"}),
    "redirect": Reply(302, headers={"Location": "/v1/elsewhere"}),
    "redirect in a circle": Reply(307, headers={"Location": "/v1/messages"}),
}


def the_page(token: str, base_url: str):
    api = vendor_page.CMzonAPI(token)
    api.base_url = f"{base_url}/v1"
    return api


def outcome(api, to=TO, message=TEXT):
    """What came of it, without what differs between two runs of the same."""
    try:
        return api.send_message(to, message)
    except Exception as error:
        response = getattr(error, "response", None)
        seen = (response.status_code, response.text, dict(response.headers)) if response else None
        request = getattr(error, "request", None)
        return (
            type(error),
            re.sub(r"0x[0-9a-f]+", "0x…", str(error)),
            seen,
            (request.method, request.url, request.body) if request is not None else None,
            isinstance(error, ValueError),
        )


def side_by_side(server, **arguments):
    outcomes, received = [], []
    for make in (the_page, lambda token, url: CMzonAPI(token, base_url=url)):
        server.received.clear()
        outcomes.append(outcome(make(FIRST.reveal(), server.url), **arguments))
        received.append(list(server.received))
    return outcomes, received


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_the_same_request_result_and_exception(server, answer):
    server.answer = lambda request: answer if request.path == "/v1/messages" else ACCEPTED
    (page, ours), (asked_by_page, asked_by_us) = side_by_side(server)
    assert without_date(ours) == without_date(page)
    assert asked_by_us == asked_by_page  # to the last header
    assert asked_by_us[0].token == FIRST.reveal()


def without_date(outcome):
    return re.sub(r"'Date': '[^']*'", "", repr(outcome))


def test_the_same_where_nobody_listens(server):
    server.stop()
    (page, ours), _ = side_by_side(server)
    assert ours == page
    assert page[0] is requests.exceptions.ConnectionError


@pytest.mark.parametrize("to", ["", None, 5, "4915112345678", ["+1", "+2"]])
@pytest.mark.parametrize("message", ["", None, "x" * 100_000])
def test_the_same_for_whatever_is_sent(server, to, message):
    (page, ours), (asked_by_page, asked_by_us) = side_by_side(server, to=to, message=message)
    assert (ours, asked_by_us) == (page, asked_by_page)


def test_the_same_where_it_cannot_be_json(server):
    (page, ours), (asked_by_page, asked_by_us) = side_by_side(server, to=TO, message=object())
    assert (ours, asked_by_us) == (page, asked_by_page)
    assert asked_by_us == []


def test_the_same_of_the_emulator():
    with Emulator() as emulator:
        page, ours = (
            [
                outcome(api, *arguments)
                for api in (make(emulator.admin_token), make("cmz_unknown"))
                for arguments in ((TO, TEXT), ("nobody", TEXT), (TO, ""))
            ]
            for make in (
                lambda token: the_page(token, emulator.base_url),
                lambda token: CMzonAPI(token, base_url=emulator.base_url),
            )
        )
    assert without_ids(ours) == without_ids(page)
    assert ours[0]["status"] == "accepted"
    assert ours[3][:2] == (ValueError, "Invalid API token")


def without_ids(outcomes):
    return re.sub(r"(msg|req)_[0-9a-f]+", "", without_date(outcomes))


def test_its_attributes_are_those_of_the_page(server):
    page, ours = vendor_page.CMzonAPI(FIRST.reveal()), CMzonAPI(FIRST.reveal())
    assert ours.base_url == page.base_url == "https://api.cmzon.com/v1"
    assert ours.api_token == page.api_token
    assert dict(ours.headers) == page.headers


def test_a_class_made_from_it_goes_on_working(server):
    class Shop(CMzonAPI):
        def __init__(self, api_token):
            super().__init__(api_token)
            self.base_url = f"{server.url}/v1"
            self.headers["X-Shop"] = "berlin"

        def profile(self):
            return requests.get(f"{self.base_url}/profile", headers=self.headers)

    shop = Shop(FIRST.reveal())
    assert shop.profile().status_code == 200
    shop.send_message(TO, TEXT)
    for request in server.received:
        assert request.token == FIRST.reveal()
        assert request.headers["x-shop"] == ["berlin"]


# better than on the page: the token


@pytest.mark.parametrize(
    "given",
    [FIRST, "env:CMZON_TEST_TOKEN", "vault", "cache"],
    ids=["token", "uri", "vault", "cache"],
)
def test_the_token_may_be_given_in_any_form(server, vault, given, monkeypatch):
    monkeypatch.setenv("CMZON_TEST_TOKEN", FIRST.reveal())
    given = {"vault": vault, "cache": TokenCache(vault)}.get(given, given)
    api = CMzonAPI(given, base_url=server.url)
    assert api.send_message(TO, TEXT)["status"] == "accepted"
    assert server.received[0].token == api.api_token == FIRST.reveal()


def test_a_uri_is_read_just_in_time(server, monkeypatch):
    monkeypatch.setenv("CMZON_TEST_TOKEN", FIRST.reveal())
    api = CMzonAPI("env:CMZON_TEST_TOKEN", base_url=server.url)
    monkeypatch.setenv("CMZON_TEST_TOKEN", SECOND.reveal())
    api.send_message(TO, TEXT)
    assert server.received[0].token == SECOND.reveal()


def test_a_token_that_was_replaced_costs_nobody_an_error(server, vault):
    api = CMzonAPI(vault, base_url=server.url)
    api.send_message(TO, TEXT)
    server.dead.add(FIRST.reveal())
    vault.token = SECOND
    assert api.send_message(TO, TEXT)["status"] == "accepted"
    assert api.api_token == SECOND.reveal()


def test_a_token_that_is_dead_is_a_value_error_after_one_look_for_another(server, vault):
    server.dead.add(FIRST.reveal())
    with pytest.raises(ValueError, match=r"^Invalid API token$"):
        CMzonAPI(vault, base_url=server.url).send_message(TO, TEXT)
    assert (len(server.received), vault.calls) == (1, 2)


def test_a_provider_that_fails_says_so_itself(server, vault):
    vault.token = ProviderUnavailable("test:vault — down", uri="test:vault")
    with pytest.raises(ProviderUnavailable):
        CMzonAPI(vault, base_url=server.url).send_message(TO, TEXT)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, ConfigurationError),  # os.getenv of a variable that is not set
        (5, ConfigurationError),
        (b"cmz_value", ConfigurationError),
        ("", InvalidToken),
        ("cmz_value\n", InvalidToken),
        ("Bearer cmz_value", InvalidToken),
        ("nowhere:CMZON_TEST_TOKEN", InvalidURI),
    ],
)
def test_what_can_be_no_token_is_refused_at_once(given, error):
    with pytest.raises(error) as caught:
        CMzonAPI(given)
    assert "cmz_value" not in str(caught.value)


def test_a_base_url_that_no_token_may_be_sent_to_is_refused(server):
    with pytest.raises(ConfigurationError, match="never sent over plain http"):
        CMzonAPI(FIRST, base_url="http://api.cmzon.com")
    api = CMzonAPI(FIRST, base_url=server.url)
    api.base_url = "http://api.cmzon.com/v1"
    with pytest.raises(ConfigurationError, match="never sent over plain http"):
        api.send_message(TO, TEXT)


def test_netrc_does_not_replace_the_token(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    CMzonAPI(FIRST, base_url=server.url).send_message(TO, TEXT)
    assert server.received[0].token == FIRST.reveal()


def test_a_redirect_to_another_host_takes_no_number_and_no_text_along(server):
    api = CMzonAPI(FIRST, base_url=server.url)
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    for status in (301, 302, 303, 307, 308):
        server.received.clear()
        server.say(status, {}, {"Location": f"{elsewhere}/v1/messages"})
        with pytest.raises(requests.exceptions.HTTPError, match=f"{status} — a redirect"):
            api.send_message(TO, TEXT)
        assert len(server.received) == 1


def test_what_is_for_this_machine_goes_through_no_proxy(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    CMzonAPI(FIRST, base_url=server.url).send_message(TO, TEXT)
    assert server.received[0].token == FIRST.reveal()


def test_what_is_for_the_internet_heeds_the_proxy_of_the_environment(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(requests.exceptions.ProxyError):
        CMzonAPI(FIRST, base_url="https://api.test.invalid").send_message(TO, TEXT)


# its connections


def test_one_connection_serves_many_messages(server):
    api = CMzonAPI(FIRST, base_url=server.url)
    for _ in range(5):
        api.send_message(TO, TEXT)
    assert server.connections == 1


def test_a_connection_that_was_idle_for_long_is_not_trusted(server, monkeypatch):
    api = CMzonAPI(FIRST, base_url=server.url)
    api.send_message(TO, TEXT)
    monkeypatch.setattr(vendor_example, "KEPT_FOR", 0.0)
    api.send_message(TO, TEXT)
    assert server.connections == 2


def test_nothing_is_remembered_between_messages(server):
    server.say(200, {}, {"Set-Cookie": "session=1; Path=/"})
    api = CMzonAPI(FIRST, base_url=server.url)
    for _ in range(2):
        api.send_message(TO, TEXT)
    assert all("cookie" not in request.headers for request in server.received)


def test_it_waits_no_longer_than_it_was_told_to(server):
    server.say(fault="hang")
    api = CMzonAPI(FIRST, base_url=server.url, timeout=0.1)
    with pytest.raises(requests.exceptions.ReadTimeout):
        api.send_message(TO, TEXT)


def test_threads_share_it(server):
    api = CMzonAPI(FIRST, base_url=server.url)
    results = []

    def work():
        results.extend(api.send_message(TO, TEXT)["status"] for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["accepted"] * 40


def test_a_forked_child_has_connections_of_its_own(server):
    api = CMzonAPI(FIRST, base_url=server.url)
    api.send_message(TO, TEXT)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if api.send_message(TO, TEXT)["status"] == "accepted" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    api.send_message(TO, TEXT)
    assert (len(server.received), server.connections) == (3, 2)


def test_close_closes_what_a_uri_opened_and_nothing_else(server, vault, monkeypatch):
    monkeypatch.setenv("CMZON_TEST_TOKEN", FIRST.reveal())
    of_uri = CMzonAPI("env:CMZON_TEST_TOKEN", base_url=server.url)
    of_uri.close()
    with pytest.raises(ConfigurationError, match="closed"):
        of_uri.send_message(TO, TEXT)
    CMzonAPI(vault, base_url=server.url).close()
    assert not vault.closed


# better than on the page: secrecy


def test_nothing_that_is_printed_shows_the_token(server):
    api = CMzonAPI(FIRST.reveal(), base_url=server.url)
    api.send_message(TO, TEXT)
    read = [api.api_token, api.headers["Authorization"], {"token": api.api_token}]
    shown = f"{api!r} {api} {vars(api)} {api.headers} {api.headers.items()!r} {read}"
    assert FIRST.reveal() not in shown
    assert TO not in shown


@pytest.mark.parametrize(
    "answer",
    ["reset", "401", "403", "200 HTML", "cut short", "redirect in a circle", "hang", "down"],
)
def test_no_exception_carries_the_token(server, vault, answer):
    server.answer = lambda _: ANSWERS.get(answer, Reply(fault="hang"))
    api = CMzonAPI(vault, base_url=server.url, timeout=0.2)
    if answer == "down":
        server.stop()
    with pytest.raises(Exception) as caught:
        api.send_message(TO, TEXT)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert FIRST.reveal() not in "".join(shown.format())
    assert not [text for text in reachable(caught.value) if FIRST.reveal() in text]


ECHOES = {
    "a status line that is none": "garbage TOKEN\r\n\r\n",
    "a reason": "HTTP/1.1 403 no TOKEN\r\nContent-Length: 0\r\n\r\n",
    "a header": "HTTP/1.1 500 no\r\nContent-Length: 0\r\nX-Was: TOKEN\r\n\r\n",
    "a body": "HTTP/1.1 403 no\r\nContent-Length: 15\r\n\r\nTOKEN",
    "no JSON": "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nTOKEN",
    "a redirect": "HTTP/1.1 307 no\r\nContent-Length: 0\r\nLocation: ftp:TOKEN\r\n\r\n",
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_no_exception_repeats_a_token_that_the_server_did(echo):
    with told(echo) as url, pytest.raises(Exception) as caught:
        CMzonAPI(FIRST, base_url=url).send_message(TO, TEXT)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert FIRST.reveal() not in "".join(shown.format())
    assert not [text for text in reachable(caught.value) if FIRST.reveal() in text]


@contextmanager
def told(answer):
    """A server that says this, whatever it is asked: with the token for TOKEN."""

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer.replace("TOKEN", FIRST.reveal()).encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving.join()


def reachable(error, depth=12):
    """Every text that an inspector finds from the error, in whatever Requests and urllib3 keep."""
    found, seen, layer = set(), {}, [error]
    for _ in range(depth):
        following = []
        for thing in layer:
            if id(thing) not in seen:
                seen[id(thing)] = thing
                following += parts(thing)
                if isinstance(thing, str | bytes):
                    found.add(thing if isinstance(thing, str) else thing.decode("latin-1"))
        layer = following
    return found


def parts(thing):
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, BaseException):
        return [thing.__cause__, thing.__context__, thing.args, vars(thing)]
    if type(thing).__module__.split(".")[0] in ("requests", "urllib3", "http"):
        return [vars(thing)] if hasattr(thing, "__dict__") else []
    return []


def test_what_the_caller_was_handling_keeps_its_traceback(server):
    server.stop()

    def handle():
        try:
            raise LookupError("the caller's own")
        except LookupError:
            CMzonAPI(FIRST, base_url=server.url).send_message(TO, TEXT)

    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        handle()
    link = caught.value
    while not isinstance(link, LookupError):
        link = link.__context__
    assert link.__traceback__ is not None
