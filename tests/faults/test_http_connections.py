"""Connections that are refused, swallowed, lost or shared, for both sessions: nothing hangs longer than
its deadline, and what never left is told from what may have arrived."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest
import trustme

from cmzon_secrets.errors import ConfigurationError, TransportError
from cmzon_secrets.http import Session
from cmzon_secrets.http.async_session import AsyncSession
from cmzon_secrets.http.resolving import found
from cmzon_secrets.http.resolving import look_up as look_up_name
from servers.http_sessions import MESSAGE, TOKEN, failure, hides
from servers.told_server import always, answer, server_context, told

SLACK = 1.0
"""Seconds more that a busy machine may take to notice."""


def post(session, **options):
    return session.send(
        "POST", "/v1/messages", token=TOKEN, json=MESSAGE, **{"within": 10.0, **options}
    )


def never_left(error):
    assert isinstance(error, TransportError)
    assert not error.may_have_been_sent
    assert error.status is None
    assert error.hint == "check the base URL (CMZON_BASE_URL, --base-url) and the network"
    assert error.message.isprintable()
    assert hides(error)
    return True


def test_a_refused_connection(open_session):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error, seconds = failure(lambda: post(open_session(f"http://127.0.0.1:{port}")))
    assert never_left(error)
    assert f"http://127.0.0.1:{port}" in error.message
    assert seconds < SLACK


def test_a_name_that_does_not_exist(open_session):
    error, _ = failure(lambda: post(open_session("https://api.cmzon.invalid"), within=5.0))
    assert never_left(error)


@pytest.fixture
def silent_resolver(monkeypatch):
    """Names are looked up for ever; addresses are read as always."""
    released, really = threading.Event(), socket.getaddrinfo

    def look_up(host, *args, flags=0, **options):
        if host == "api.cmzon.invalid" and not flags & socket.AI_NUMERICHOST:
            released.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return really(host, *args, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    released.set()
    look_up_name("api.cmzon.invalid", 443).result(5)  # the next test does not share it


def test_a_resolver_that_is_silent(silent_resolver, open_session):
    session = open_session("https://api.cmzon.invalid")
    error, seconds = failure(lambda: post(session, within=0.4))
    assert never_left(error)
    assert 0.3 < seconds < 0.4 + SLACK


def test_a_silent_resolver_holds_up_no_other_task_and_not_the_end_of_the_loop(silent_resolver):
    """asyncio's own pool of threads would be full, and waited for."""

    async def many():
        session = AsyncSession("https://api.cmzon.invalid", timeout=0.3)
        calls = [session.send("GET", "/v1") for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.to_thread(time.monotonic)
        return outcomes

    began = time.monotonic()
    assert all(isinstance(outcome, TransportError) for outcome in asyncio.run(many()))
    assert time.monotonic() - began < 10


def test_a_silent_resolver_takes_one_thread_however_many_give_up(silent_resolver, open_session):
    session = open_session("https://api.cmzon.invalid")
    failure(lambda: post(session, within=0.01))
    before = threading.active_count()
    for _ in range(5):
        error, _ = failure(lambda: post(session, within=0.01))
        assert never_left(error)
    assert threading.active_count() == before


def test_a_name_is_asked_for_anew_once_the_resolver_has_spoken(monkeypatch):
    asked = []

    def look_up(host, port, **_):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    first, second = (look_up_name("api.cmzon.invalid", 443).result(5) for _ in range(2))
    assert asked == ["api.cmzon.invalid"] * 2
    for outcome in (first, second):
        with pytest.raises(socket.gaierror, match="try again") as caught:
            found(outcome)
        assert caught.value is not outcome  # a traceback is one caller's own


@contextmanager
def swallowing_at(address):
    """A listener whose queue is full: a connection to it is neither taken nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(address)
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def test_a_connection_that_is_swallowed(open_session):
    with swallowing_at(("127.0.0.1", 0)) as port:
        session = open_session(f"http://127.0.0.1:{port}")
        error, seconds = failure(lambda: post(session, within=0.4))
    assert never_left(error)
    assert 0.3 < seconds < 0.4 + SLACK


def test_a_dead_address_leaves_time_for_the_next(open_session, monkeypatch, tmp_path):
    """As with a host that has an IPv6 address which leads nowhere."""
    authority, ca = trustme.CA(), str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca)
    secure = server_context(authority.issue_cert("localhost"))
    with told(always(answer()), secure) as server, swallowing_at(("127.0.0.2", server.port)):
        monkeypatch.setattr(socket, "getaddrinfo", _two_addresses(socket.getaddrinfo))
        session = open_session(f"https://localhost:{server.port}", timeout=2.5, ca=ca)
        began = time.monotonic()
        assert session.send("GET", "/v1").status == 200
        assert time.monotonic() - began > 0.9, "the dead one was tried first"


def _two_addresses(really):
    def look_up(host, port, **options):
        if host != "localhost" or options.get("flags"):
            return really(host, port, **options)
        return [*really("127.0.0.2", port, **options), *really("127.0.0.1", port, **options)]

    return look_up


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST"])
def test_over_plain_http_the_name_localhost_is_only_127_0_0_1(open_session, monkeypatch, name):
    """Whoever listens on [::1] at the same port would get the token; here at 127.0.0.2 in its stead."""
    with told(always(answer())) as server, socket.create_server(("127.0.0.2", server.port)) as his:
        his.settimeout(0.1)
        monkeypatch.setattr(socket, "getaddrinfo", _two_addresses(socket.getaddrinfo))
        session = open_session(f"http://{name}:{server.port}")
        assert post(session).status == 200
        assert f"\r\nHost: {name}:{server.port}\r\n".encode() in server.heard[0], "as it was typed"
        with pytest.raises(TimeoutError):
            his.accept()


def test_a_server_that_reads_a_byte_now_and_then(open_session):
    """Its socket's buffer fills up; each write gets a little on, and the deadline ends it."""

    def script(conversation):
        while not conversation.server.closing and conversation.listen(1):
            time.sleep(0.02)

    with told(script) as server:
        session = open_session(server.url)
        long = {"text": "x" * 8_000_000}
        error, seconds = failure(
            lambda: session.send("POST", "/v1/messages", token=TOKEN, json=long, within=0.5)
        )
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent
    assert 0.4 < seconds < 0.5 + SLACK
    assert hides(error, TOKEN.reveal(), "xxxxxxxx")


def test_a_connection_closed_between_two_requests_is_not_used(open_session):
    def script(conversation):
        conversation.hear()
        conversation.say(answer())

    with told(script) as server:
        session = open_session(server.url)
        for _ in range(3):
            assert post(session).status == 200
            time.sleep(0.05)  # its end arrives
        assert (server.connections, len(server.heard)) == (3, 3)


@pytest.mark.parametrize(("idle", "connections"), [(3.0, 1), (5.0, 2)])
def test_a_connection_is_not_used_again_once_common_servers_may_close_it(
    open_session, monkeypatch, idle, connections
):
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + idle)
    with told(always(answer())) as server:
        session = open_session(server.url)
        assert post(session).status == 200
        for engine in ("httpcore2._sync.http11", "httpcore2._async.http11"):
            monkeypatch.setattr(f"{engine}.time", later)
        assert post(session).status == 200
        assert server.connections == connections


def test_a_connection_closed_at_the_very_moment_may_have_taken_the_request(open_session):
    def script(conversation):
        conversation.hear()
        conversation.say(answer())
        conversation.hear()  # and the second one is not answered

    with told(script) as server:
        session = open_session(server.url)
        post(session)
        error, _ = failure(lambda: post(session))
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent
    assert (server.connections, len(server.heard)) == (1, 2), "it is not sent again by itself"


def test_a_request_without_a_body_that_ran_out_of_time_may_have_been_sent(open_session):
    with told(lambda conversation: conversation.wait()) as server:
        error, _ = failure(lambda: open_session(server.url).send("DELETE", "/v1/x", within=0.2))
    assert error.may_have_been_sent


def test_no_time_at_all_sends_nothing(open_session):
    with told(always(answer())) as server:
        session = open_session(server.url)
        error, seconds = failure(lambda: post(session, within=0.0))
        assert never_left(error)
        post(session)  # there is a connection now
        error, seconds = failure(lambda: post(session, within=-1.0))
        assert never_left(error)
        assert seconds < SLACK
        assert len(server.heard) == 1


def test_where_nothing_is_said_the_timeout_is_the_deadline(open_session):
    with told(lambda conversation: conversation.say_slowly(answer(X_Long="x" * 100))) as server:
        error, seconds = failure(lambda: open_session(server.url, timeout=0.3).send("GET", "/v1"))
    assert isinstance(error, TransportError)
    assert 0.2 < seconds < 0.3 + SLACK


def test_a_session_goes_on_after_whatever_happened(open_session):
    bad = [lambda c: c.reset(), lambda c: c.wait(), lambda c: c.say(b"?\r\n\r\n")]

    def script(conversation):
        if conversation.server.connections <= 3 * len(bad):
            conversation.hear()
            return bad[conversation.server.connections % len(bad)](conversation)
        return always(answer())(conversation)

    with told(script) as server:
        session = open_session(server.url)
        for _ in range(3 * len(bad)):
            failure(lambda: post(session, within=0.1))
        assert post(session).status == 200
        assert len(session.connections()) == 1


# closed, shared, forked


def test_closing_ends_what_is_under_way(open_session):
    with told(lambda conversation: (conversation.hear(), conversation.wait())) as server:
        session = open_session(server.url)
        ended = []
        thread = threading.Thread(target=lambda: ended.append(failure(lambda: post(session))))
        thread.start()
        while not server.heard:
            time.sleep(0.01)
        session.close()
        thread.join(5)
        [(error, seconds)] = ended
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent
    assert seconds < 3
    assert hides(error)
    assert isinstance(failure(lambda: post(session))[0], ConfigurationError)
    session.close()  # again changes nothing


def test_many_threads_share_a_session_and_get_their_own_answers(open_session):
    def script(conversation):
        while asked := conversation.hear():
            conversation.say(answer(body=asked.partition(b"/v1/")[2].partition(b" ")[0]))

    with told(script) as server:
        session, wrong = open_session(server.url), []

        def ask(name):
            for number in range(10):
                asked = f"{name}-{number}"
                if session.send("GET", f"/v1/{asked}", token=TOKEN).body != asked.encode():
                    wrong.append(asked)

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(server.heard) == 160
    assert server.connections <= 16


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_does_not_use_its_parents_connections():
    with told(always(answer())) as server, closing(Session(server.url)) as session:
        session.send("GET", "/v1")
        child = os.fork()
        if not child:
            os._exit(0 if session.send("GET", "/v1").status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert server.connections == 2
        assert session.send("GET", "/v1").status == 200
        assert server.connections == 2, "the parent's connection survived its child"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_in_the_midst_of_other_threads_requests_does_not_lock_the_child():
    with told(always(answer())) as server, closing(Session(server.url)) as session:
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                session.send("GET", "/v1")

        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(5):
            child = os.fork()
            if not child:
                signal.alarm(10)
                os._exit(0 if session.send("GET", "/v1").status == 200 else 1)
            statuses.append(os.waitpid(child, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * 5


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_async_session_serves_one_loop_after_another():
    async def ask(session):
        return (await session.send("GET", "/v1")).status

    with told(always(answer())) as server:
        session = AsyncSession(server.url)
        assert [asyncio.run(ask(session)) for _ in range(2)] == [200, 200]
        assert server.connections == 2
        del session
        gc.collect()  # a loop that has ended leaves its sockets to the collector


def test_a_cancelled_task_leaves_the_others_alone():
    def script(conversation):
        while asked := conversation.hear():
            time.sleep(0.2 if b"/v1/slow" in asked else 0)
            conversation.say(answer())

    async def cancel_one(url):
        session = AsyncSession(url)
        slow = asyncio.create_task(session.send("POST", "/v1/slow", token=TOKEN, json=MESSAGE))
        await asyncio.sleep(0.05)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await slow
        statuses = [(await session.send("GET", "/v1")).status for _ in range(2)]
        await session.close()
        return statuses, caught.value

    with told(script) as server:
        statuses, error = asyncio.run(cancel_one(server.url))
    assert statuses == [200, 200]
    assert hides(error)


def test_a_program_ends_though_a_name_is_still_looked_up():
    program = """if True:
        import asyncio, socket, time
        really = socket.getaddrinfo
        def look_up(host, *args, flags=0, **options):
            if not flags:
                time.sleep(60)
            return really(host, *args, flags=flags, **options)
        socket.getaddrinfo = look_up
        from cmzon_secrets.http import Session
        from cmzon_secrets.http.async_session import AsyncSession
        for send in (
            lambda: Session("https://x.invalid").send("GET", "/v1", within=0.1),
            lambda: asyncio.run(AsyncSession("https://x.invalid").send("GET", "/v1", within=0.1)),
        ):
            try:
                send()
            except Exception as error:
                print(type(error).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["TransportError"] * 2
