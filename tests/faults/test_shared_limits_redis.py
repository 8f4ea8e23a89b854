"""RateLimits.shared with real processes, a real Redis and real faults; judged at the server."""

import json
import logging
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import redis
import trustme

from cmzon_secrets import Token
from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.testing import MemoryStore
from servers.child_process import free_port

PROGRAM = Path(__file__).with_name("shared_sender.py")
SOURCE = Path(__file__).parents[2] / "src"
TO, TEXT = "+4915112345678", "a private word"
DATABASE = 12


@pytest.fixture
def api():
    """It takes everything, and counts what came in the busiest second."""
    with Emulator(limits=False) as emulator:
        yield emulator


@pytest.fixture
def store(api):
    store = MemoryStore()
    store.stage(Token(api.admin_token, id="admin"))
    store.promote("admin", replacing=None)
    return store


class Fleet:
    """Four processes that send all they can, each with three threads and ten tasks."""

    def __init__(self, api, url, *, seconds, **limits):
        told = {"url": url, "account": "fleet", "base_url": api.base_url, "threads": 3, "tasks": 10}
        told |= {"seconds": seconds, "limits": {"processes": 4, **limits}}
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(told)],
                env={**os.environ, "TOKEN": api.admin_token, "PYTHONPATH": str(SOURCE)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]

    def begin(self):
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"
        self.began = time.monotonic()
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def end(self):
        found = [json.loads(process.stdout.readline()) for process in self.processes]
        self.outcomes = [one["outcomes"] for one in found]
        self.events = [[name for name, _ in one["events"]] for one in found]
        self.answered = sorted(at - self.began for one in found for at in one["answered"])
        return self

    def between(self, begins, ends):
        return sum(begins <= at < ends for at in self.answered)

    def most_in(self, seconds):
        """In the best stretch of so many seconds: this machine has other things to do as well."""
        return max(self.between(at, at + seconds) for at in self.answered)

    def close(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def fleet(api):
    fleets = []

    def start(url, **told):
        fleets.append(Fleet(api, url, **told))
        fleets[0].begin()
        return fleets[0]

    yield start
    for one in fleets:
        one.close()


@pytest.mark.slow
@pytest.mark.paced
def test_four_processes_send_all_there_is_in_equal_parts_until_the_day_is_over(
    api, own_redis, fleet
):
    processes = fleet(own_redis.url(), seconds=60, per_day=400).end()
    sent = [outcomes.get("sent", 0) for outcomes in processes.outcomes]
    assert api.stats()["max_per_sliding_second"] <= 80
    assert processes.most_in(1.0) >= 77
    assert min(sent) / max(sent) >= 0.8
    with redis.Redis.from_url(own_redis.url()) as connection:
        counted = int(connection.hget("cmzon-secrets:{fleet}", "sent"))
    assert api.stats()["messages"] == sum(sent) == counted
    assert (
        400 - 8 <= counted <= 400
    )  # a slot given up after all others had stopped is sent by nobody
    assert all(set(outcomes) == {"sent", "DailyLimitReached"} for outcomes in processes.outcomes)


@pytest.mark.slow
@pytest.mark.paced
@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_a_redis_that_goes_and_comes_back_never_lets_too_many_through_nor_fails_a_send(
    api, own_redis, fleet, fault
):
    processes = fleet(own_redis.url(), seconds=9.5)
    time.sleep(1.5)
    own_redis.kill() if fault == "killed" else own_redis.hang()
    time.sleep(2.0)
    own_redis.start() if fault == "killed" else own_redis.go_on()
    processes.end()
    assert api.stats()["max_per_sliding_second"] <= 80
    assert all(set(outcomes) == {"sent"} for outcomes in processes.outcomes)
    assert processes.between(3.5, 5.5) >= 40  # from their shares
    assert processes.between(7.5, 9.5) >= 60  # and by Redis's slots again
    assert all(names[:2] == ["limits_degraded", "limits_restored"] for names in processes.events)
    with redis.Redis.from_url(own_redis.url()) as connection:
        figures = connection.hgetall("cmzon-secrets:{fleet}")
    counted = int(figures[b"known"]) + int(figures[b"sent"])
    messages = api.stats()["messages"]
    assert messages <= counted <= messages + 4 * 2  # what Redis granted, and nobody heard of


def client_of(api, store, url, events=None, **limits):
    subscriber = events.append if events is not None else None
    limits = RateLimits.shared(url, account=os.urandom(4).hex(), subscriber=subscriber, **limits)
    return Client(store, base_url=api.base_url, limits=limits), limits


def test_a_redis_that_is_away_from_the_beginning_fails_no_send(api, store):
    client, limits = client_of(api, store, f"redis://127.0.0.1:{free_port()}/0", events := [])
    with client, limits:
        begun = time.monotonic()
        client.send_message(TO, TEXT)
        client.send_message(TO, TEXT)
        assert time.monotonic() - begun >= 1.0
        assert limits.degraded
    (event,) = events
    assert event.name == "limits_degraded"
    assert event.facts == {"reason": "ConnectionError", "per_second": pytest.approx(9.615)}


@pytest.mark.slow
def test_a_redis_that_answers_with_errors_is_as_good_as_gone_and_found_again(api, store, own_redis):
    client, limits = client_of(api, store, own_redis.url())
    with client, limits, redis.Redis.from_url(own_redis.url()) as connection:
        for fault, mend in [
            (lambda: connection.config_set("maxmemory", 1), lambda: connection.config_set("maxmemory", 0)),
            (lambda: connection.replicaof("127.0.0.1", 1), lambda: connection.replicaof("NO", "ONE")),
        ]:  # fmt: skip
            until_granted(limits)
            fault()
            limits._ask(SYSTEM_CLOCK)
            assert limits.degraded
            mend()
            until_granted(limits)
            client.send_message(TO, TEXT)
            assert not limits.degraded
    assert api.stats()["messages"] == 2


def until_granted(limits):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if limits._share_now(time.monotonic()) is None and limits._ask(SYSTEM_CLOCK) is None:
            return
        time.sleep(0.05)


@pytest.mark.slow
def test_a_forked_child_shares_the_limits_as_another_process(api, store, redis_server):
    client, limits = client_of(api, store, redis_server.url(DATABASE), per_day=3)
    with client, limits:
        client.send_message(TO, TEXT)
        child = os.fork()
        if child == 0:
            try:
                client.send_message(TO, TEXT)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        client.send_message(TO, TEXT)
        assert api.stats()["messages"] == 3
        assert limits.usage(SYSTEM_CLOCK.now()).sent_today == 3


def test_the_password_shows_nowhere(api, store, own_redis, caplog):
    caplog.set_level(logging.DEBUG)
    wrong = f"redis://someone:{own_redis.password}x@127.0.0.1:{own_redis.port}/0"
    shown = []

    def send(url):
        client, limits = client_of(api, store, url)
        shown.extend([repr(limits), repr(vars(limits)), repr(vars(limits._server))])
        client.send_message(TO, TEXT)

    for url in (wrong, wrong.replace("/0", "/zero"), wrong + "?db=1"):
        with pytest.raises(ConfigurationError) as caught:
            send(url)
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [line for line in told.format() if __file__ not in line]
        shown += [*ours, caught.value.message, str(caught.value.hint)]
    assert "does not accept the user or the password" in "".join(shown)
    assert own_redis.password not in "".join([*shown, caplog.text])


def test_the_commands_that_the_page_lists_are_all_that_is_needed(api, store, redis_server):
    page = (Path(__file__).parents[2] / "docs" / "shared-limits.md").read_text()
    rules = re.findall(r"\+[a-z]+", page)
    with redis.Redis.from_url(redis_server.url(DATABASE)) as connection:
        connection.execute_command(
            "ACL", "SETUSER", "sender", "on", ">pw", "~cmzon-secrets:*", *rules
        )
        url = f"redis://sender:pw@127.0.0.1:{redis_server.port}/{DATABASE}"
        client, limits = client_of(api, store, url)
        with client, limits:
            client.send_message(TO, TEXT)
            assert limits._line.told is not None
        connection.execute_command("ACL", "SETUSER", "sender", "-zadd")
        client, limits = client_of(api, store, url)
        with client, limits, pytest.raises(ConfigurationError, match="run a command"):
            client.send_message(TO, TEXT)
        connection.execute_command("ACL", "DELUSER", "sender")


def test_a_socket_of_this_machine_works_as_well(api, store, own_redis):
    client, limits = client_of(api, store, f"unix://:{own_redis.password}@{own_redis.socket}")
    with client, limits:
        client.send_message(TO, TEXT)
        assert limits._line.told is not None


def test_a_database_that_is_not_there_is_a_mistake(api, store, redis_server):
    url = redis_server.url(99)
    client, limits = client_of(api, store, url)
    with client, limits, pytest.raises(ConfigurationError) as caught:
        client.send_message(TO, TEXT)
    place = f"redis://127.0.0.1:{redis_server.port}/99"
    assert caught.value.message == f"{place} — Redis has no such database"


def test_tls_where_none_is_spoken_is_a_mistake(api, store, redis_server):
    url = redis_server.url(DATABASE).replace("redis:", "rediss:")
    client, limits = client_of(api, store, url)
    with client, limits, pytest.raises(ConfigurationError, match="— no TLS is spoken") as caught:
        client.send_message(TO, TEXT)
    assert redis_server.password not in caught.value.message


def test_so_it_is_where_something_else_listens(api, store):
    client, limits = client_of(api, store, api.base_url.replace("http:", "rediss:"))
    with client, limits, pytest.raises(ConfigurationError, match="— no TLS is spoken"):
        client.send_message(TO, TEXT)


def test_nothing_is_mistaken_where_a_redis_hangs(api, store, own_redis):
    own_redis.hang()
    client, limits = client_of(api, store, own_redis.url().replace("redis:", "rediss:"))
    with client, limits:
        client.send_message(TO, TEXT)
        assert limits.degraded
    own_redis.go_on()


def test_tls_is_verified(api, store, tmp_path):
    from servers.redis import Redis

    authority, port = trustme.CA(), free_port()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = Redis(
        tmp_path,
        f"tls-port {port}",
        f"tls-cert-file {tmp_path}/cert.pem",
        f"tls-key-file {tmp_path}/key.pem",
        "tls-auth-clients no",
    )
    server.start()
    url = f"rediss://:{server.password}@127.0.0.1:{port}/0"
    try:
        client, limits = client_of(api, store, url, ca=str(tmp_path / "ca.pem"))
        with client, limits:
            client.send_message(TO, TEXT)
            assert limits._line.told is not None
        client, limits = client_of(api, store, url)
        with client, limits, pytest.raises(ConfigurationError, match="not trusted"):
            client.send_message(TO, TEXT)
        client, limits = client_of(api, store, url.replace("rediss:", "redis:"))
        with client, limits, pytest.raises(ConfigurationError, match="— TLS is spoken there"):
            client.send_message(TO, TEXT)
    finally:
        server.kill()
