"""GET /_emulator/messages, and waiting for one."""

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import httpx2
import pytest

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.exchanges import ExchangeFilter
from cmzon_secrets.emulator.account.tokens import deriving
from cmzon_secrets.emulator.account.waiting import wait_for
from cmzon_secrets.emulator.controls.watching import TEXTS
from cmzon_secrets.emulator.storage.journal import Journal

TO = "+1234567890"
OTHER = "+4915112345678"


def message(text="Hello from CMzon!", to=TO):
    return {"to": to, "type": "text", "text": {"body": text}}


def listed(api, **query):
    answer = api.http.get("/_emulator/messages", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def texts(entries):
    return [entry["text"] for entry in entries]


def wait(api, **wanted):
    return api.http.post("/_emulator/messages/wait", json=wanted)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(60) as pool:
        yield pool


@pytest.fixture
def waiting(api, threads):
    """A wait that goes on in another thread when this returns."""

    def begin(number=1, **wanted):
        waits = [threads.submit(wait, api, **wanted) for _ in range(number)]
        until(lambda: waiters(api) >= number)
        return waits if number > 1 else waits[0]

    return begin


def waiters(api):
    async def count(account):
        return len(account.changes._watchers)

    return api.emulator._await(count)


def until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# What is listed


def test_a_message_is_shown_with_its_request_and_its_answer_as_sent(api):
    token = api.issue()
    sent = api.send(token["token"], key="order-1", message=message("Grüße 👋"))
    (entry,) = listed(api)
    assert entry["message_id"] == sent.json()["id"]
    assert entry["request_id"] == sent.headers["x-request-id"]
    assert (entry["to"], entry["text"], entry["status"]) == (TO, "Grüße 👋", 200)
    assert (entry["token_id"], entry["idempotency_key"]) == (token["id"], "order-1")
    assert entry["request"]["body"].encode() == sent.request.content
    assert entry["response"]["body"] == sent.text
    assert token["token"] not in str(entry)


def test_one_is_shown_by_the_request_id_of_its_answer(api):
    ids = [api.send(message=message(text)).headers["x-request-id"] for text in "ab"]
    found = [api.http.get(f"/_emulator/messages/{request_id}").json() for request_id in ids]
    assert texts(found) == ["a", "b"]


def test_an_unknown_request_id_is_404(api):
    for request_id in ("req_0000000000000000", "wait", "%00", "x" * 5000):
        answer = api.http.get(f"/_emulator/messages/{request_id}")
        assert "request id" in api.details(answer, 404)


def test_the_oldest_come_first_and_after_leads_on_to_the_next(api):
    for number in range(5):
        api.send(message=message(f"{number}"))
    first = listed(api, limit=2)
    assert texts(first) == ["0", "1"]
    second = listed(api, limit=2, after=first[-1]["seq"])
    assert texts(second) == ["2", "3"]
    assert texts(listed(api, after=second[-1]["seq"])) == ["4"]
    assert texts(listed(api, before=second[0]["seq"])) == ["0", "1"]


def test_unless_told_otherwise_a_hundred_are_listed(api, emulator):
    emulator.fault(route="POST /v1/messages", status=503)
    for _ in range(101):
        api.send()
    assert len(listed(api)) == 100
    assert len(listed(api, limit=1000)) == 101


@pytest.fixture
def mixed(api):
    """Four requests that differ in everything that can be asked for."""
    token = api.issue()
    first = api.send(key="k1", message=message("Your code is 1234"))
    api.send(token["token"], message=message("straße", to=OTHER))
    api.send("unknown-token", message=message("nobody's"))
    api.fault(reset=True, after_accept=True, count=1)
    with pytest.raises(Exception):  # noqa: B017  # whatever the client calls a reset
        api.send(message=message("lost"))
    return {"token_id": token["id"], "message_id": first.json()["id"]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"to": OTHER}, ["straße"]),
        ({"to": OTHER[:-1]}, []),
        ({"text": "CODE is"}, ["Your code is 1234"]),
        ({"text": "STRASSE"}, ["straße"]),
        ({"text": "%"}, []),
        ({"status": "2xx"}, ["Your code is 1234", "straße"]),
        ({"status": "accepted"}, ["Your code is 1234", "straße", "lost"]),
        ({"status": "failed"}, ["nobody's"]),
        ({"status": "401"}, ["nobody's"]),
        ({"status": "4xx"}, ["nobody's"]),
        ({"status": "none"}, ["lost"]),
        ({"idempotency_key": "k1"}, ["Your code is 1234"]),
        ({"status": "2xx", "to": TO}, ["Your code is 1234"]),
        ({"status": "5xx"}, []),
        ({"to": ""}, ["Your code is 1234", "straße", "nobody's", "lost"]),
    ],
    ids=str,
)
def test_every_filter_finds_what_it_names_and_nothing_else(api, mixed, query, found):
    assert texts(listed(api, **query)) == found


@pytest.mark.parametrize(
    ("name", "found"), [("token_id", "straße"), ("message_id", "Your code is 1234")]
)
def test_tokens_and_messages_are_found_by_their_ids(api, mixed, name, found):
    assert texts(listed(api, **{name: mixed[name]})) == [found]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("txet", ["a"]),
        ("timeout", ["1"]),
        ("status", ["abc", "4x", "600", "99", "2XX", "20٠"]),
        ("after", ["-1", "x", "1.5", "9" * 19, "٣"]),
        ("before", ["-1", "x"]),
        ("limit", ["0", "1001", "x", "all"]),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_by_name(api, name, values):
    for value in values:
        answer = api.http.get("/_emulator/messages", params={name: value})
        assert api.details(answer).startswith(f"{name} — "), value


def test_a_parameter_that_is_given_twice_is_refused(api):
    answer = api.http.get("/_emulator/messages?text=a&text=b")
    assert api.details(answer) == "query — a parameter is given twice"


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_looked_for_has_a_length_that_costs_little(api, name):
    longest = TEXTS[name]
    assert listed(api, **{name: "1" * longest}) == []
    answer = api.http.get("/_emulator/messages", params={name: "1" * (longest + 1)})
    assert api.details(answer).startswith(f"{name} — a string of 1 to {longest} characters")
    answer = wait(api, status="4xx", **{name: "1" * (longest + 1)})
    assert api.details(answer).startswith(f"{name} — ")


def test_headers_are_all_shown_though_one_comes_twice(api):
    keys = [("Idempotency-Key", "one"), ("X-Other", "2"), ("Idempotency-Key", "three")]
    api.http.post("/v1/messages", headers=keys, json=message())
    (entry,) = listed(api)
    shown = [
        pair for pair in entry["request"]["headers"] if pair[0] in ("idempotency-key", "x-other")
    ]
    assert shown == [["idempotency-key", "one"], ["x-other", "2"], ["idempotency-key", "three"]]


@pytest.mark.parametrize("lost", [{"reset": True}, {"status": 503}], ids=str)
def test_a_message_whose_answer_was_lost_was_accepted(api, lost):
    api.fault(after_accept=True, count=1, **lost)
    with suppress(httpx2.TransportError):
        api.send()
    (entry,) = listed(api)
    assert entry["accepted"] is True
    assert entry["message_id"].startswith("msg_")
    assert entry["status"] == lost.get("status")
    assert wait(api, timeout=0).json() == entry
    assert listed(api, status="failed") == []


@pytest.mark.parametrize("spoilt", [{"reset": True}, {"status": 503}], ids=str)
def test_a_message_that_never_got_there_failed(api, spoilt):
    api.fault(count=1, **spoilt)
    with suppress(httpx2.TransportError):
        api.send()
    (entry,) = listed(api, status="failed")
    assert (entry["accepted"], entry["message_id"]) == (False, None)
    assert wait(api, timeout=0).status_code == 408
    assert wait(api, timeout=0, status="failed").json() == entry


def test_messages_are_forgotten_and_nothing_that_they_counted_for(api):
    token = api.issue()
    api.send(token["token"], key="k1")
    before = api.stats()
    watched = api.emulator._await(version)
    assert api.http.delete("/_emulator/messages").status_code == 204
    assert listed(api) == []
    assert api.emulator._await(version) != watched
    assert api.stats() == before
    assert api.http.get("/_emulator/limits").json()["accepted_today"] == 1
    repeated = api.send(token["token"], key="k1")
    assert listed(api)[0]["message_id"] == repeated.json()["id"]
    assert api.messages() == 1


async def version(account):
    return account.changes.version


def test_hostile_text_is_found_and_shown_as_it_is(api):
    text = "<script>alert(1)</script>\u202e\x00{{ 7 * 7 }}'\"%_\\"
    api.send(message=message(text))
    (entry,) = listed(api, text=text)
    assert entry["text"] == text


# What is waited for


def test_a_message_that_came_before_the_call_is_found_at_once(api):
    api.send(message=message("first"))
    api.send(message=message("second"))
    answer = wait(api, timeout=0)
    assert answer.status_code == 200
    assert answer.json()["text"] == "first"
    assert answer.json() == listed(api)[0]


def test_a_message_that_comes_later_ends_the_wait_when_it_comes(api, waiting):
    api.send(message=message("another"))
    waited = waiting(text="code", timeout=60)
    api.send(message=message("Your code is 1234"))
    assert waited.result(10).json()["text"] == "Your code is 1234"


def test_after_a_seq_only_later_ones_count(api, waiting):
    seq = wait(api, timeout=0, after=0) and api.send() and wait(api, timeout=0).json()["seq"]
    waited = waiting(after=seq, timeout=60)
    api.send(message=message("later"))
    assert waited.result(10).json()["text"] == "later"


def test_unless_asked_for_only_accepted_messages_count(api, waiting):
    waited = waiting(timeout=60)
    api.send("unknown-token")
    api.send(message=message("taken"))
    assert waited.result(10).json()["text"] == "taken"


@pytest.mark.parametrize("status", ["4xx", "401", 401])
def test_other_answers_are_waited_for_by_their_status(api, status):
    api.send()
    api.send("unknown-token")
    assert wait(api, timeout=0, status=status).json()["status"] == 401


@pytest.mark.parametrize(
    "wanted",
    [{"to": OTHER}, {"text": "gruss"}, {"idempotency_key": "k2"}, {"to": OTHER, "text": "GRUSS"}],
    ids=str,
)
def test_every_predicate_waits_for_its_own_message(api, waiting, wanted):
    waited = waiting(timeout=60, **wanted)
    api.send(key="k1")
    api.send(key="k2", message=message("Gruß", to=OTHER))
    assert waited.result(10).json()["idempotency_key"] == "k2"


def test_a_token_and_a_message_are_waited_for_by_id(api):
    token = api.issue()
    api.send()
    sent = api.send(token["token"]).json()
    assert wait(api, timeout=0, token_id=token["id"]).json()["message_id"] == sent["id"]
    assert wait(api, timeout=0, message_id=sent["id"]).json()["token_id"] == token["id"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("txet", ["a"]),
        ("limit", [1]),
        ("timeout", [-1, 300.1, "10", True, []]),
        ("status", ["abc", 4.5, True, 99, 600, [], {}, ""]),
        ("after", [-1, "1", 1.5, 2**60]),
        ("text", [5, 0, False, [], {}, "\ud800"]),
        *((name, [5, ["+1"]]) for name in ("to", "token_id", "idempotency_key", "message_id")),
    ],
)
def test_a_wait_that_cannot_be_meant_is_refused_by_name(api, name, values):
    for value in values:
        body = json.dumps({name: value})
        answer = api.http.post("/_emulator/messages/wait", content=body)
        assert api.details(answer).startswith(f"{name} — "), value


@pytest.mark.parametrize("to", ["", "1999", "+0123", "+1 234", "+123456789012345678"])
@pytest.mark.parametrize("status", [{}, {"status": "accepted"}, {"status": "2xx"}, {"status": 200}])
def test_a_recipient_to_whom_no_message_can_be_accepted_is_not_waited_for(api, to, status):
    details = api.details(wait(api, to=to, timeout=60, **status))
    assert details.startswith("to — no message to it is ever accepted: a number like +1234567890")


def test_of_such_a_recipient_the_refusal_is_waited_for(api):
    for to in ("", "1999"):
        api.send(message=message(to=to))
        entry = wait(api, to=to, status=400, timeout=0).json()
        assert (entry["to"], entry["accepted"]) == (to or None, False)


# What a wait says that was in vain


def test_in_vain_it_says_that_nothing_came(api):
    details = api.details(wait(api, timeout=0), 408)
    assert details == "within 0 s no message matched; none came at all"


def test_in_vain_it_says_what_came_instead_and_how_that_was_answered(api):
    api.send(message=message("Your code is 1234"))
    answer = wait(api, timeout=0.1, text="password")
    assert api.details(answer, 408) == (
        "within 0.1 s no message matched;"
        " 1 other came, to +1234567890 with status 200: 'Your code is 1234'"
    )
    api.fault(status=429)
    api.send()
    answer = wait(api, timeout=0, text="password")
    assert api.details(answer, 408) == (
        "within 0 s no message matched;"
        " 2 others came, the last to +1234567890 with status 429: Rate limit exceeded"
    )


def test_in_vain_it_says_which_field_the_api_refused(api):
    api.send(message={"type": "text", "text": {"body": "to nobody"}})
    details = api.details(wait(api, timeout=0), 408)
    assert "1 other came, to no number with status 400: to — a string" in details


def test_in_vain_it_says_that_a_connection_broke(api):
    api.fault(reset=True, count=1)
    with pytest.raises(Exception):  # noqa: B017  # whatever the client calls a reset
        api.send()
    assert "to +1234567890 and got no answer" in api.details(wait(api, timeout=0), 408)


def test_in_vain_it_tells_of_later_ones_only_where_only_those_were_waited_for(api):
    api.send()
    assert "none came at all" in api.details(wait(api, timeout=0, after=1), 408)


def test_what_it_says_of_a_hostile_text_is_short_and_harmless_in_a_terminal(api):
    api.send(message=message("\x1b[2J\u202e\x00" + "x" * 4000))
    details = api.details(wait(api, timeout=0, text="no"), 408)
    assert details.isprintable()
    assert len(details) < 250


def test_it_waits_as_long_as_it_was_told_and_no_longer(api):
    began = time.monotonic()
    assert wait(api, timeout=0.3).status_code == 408
    assert 0.3 <= time.monotonic() - began < 3


# Who waits, and what happens meanwhile


def test_many_wait_at_once_each_for_its_own(api, threads):
    waits = [threads.submit(wait, api, text=f"no. {n}.", timeout=60) for n in range(50)]
    until(lambda: waiters(api) == 50)
    for n in reversed(range(50)):
        api.send(message=message(f"no. {n}."))
    assert [w.result(10).json()["text"] for w in waits] == [f"no. {n}." for n in range(50)]
    until(lambda: waiters(api) == 0)


def test_many_who_wait_for_the_same_all_get_it(api, waiting):
    waits = waiting(20, timeout=60)
    sent = api.send().json()
    assert {w.result(10).json()["message_id"] for w in waits} == {sent["id"]}


def test_who_hangs_up_waits_no_longer_and_is_no_error(api, caplog):
    host, port = api.emulator.base_url.removeprefix("http://").split(":")
    body = b'{"timeout": 300}'
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            b"POST /_emulator/messages/wait HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        until(lambda: waiters(api) == 1)
    until(lambda: waiters(api) == 0)
    assert api.send().status_code == 200
    assert caplog.records == []


def test_a_stop_ends_every_wait_at_once_and_is_no_error(api, waiting, caplog):
    waits = waiting(20, timeout=300)
    began = time.monotonic()
    api.emulator.stop()
    assert "stopped" in api.details(waits[0].result(10), 503)
    assert {w.result(10).status_code for w in waits} == {503}
    assert time.monotonic() - began < 3
    assert caplog.records == []


def test_a_reset_meanwhile_ends_no_wait_and_later_messages_count(api, waiting):
    for _ in range(5):
        api.send()
    waited = waiting(text="after", after=5, timeout=60)
    api.control("reset")
    api.send(message=message("after"))
    assert waited.result(10).json()["text"] == "after"


def test_a_restore_meanwhile_brings_what_is_waited_for(api, waiting):
    api.send(message=message("kept"))
    api.http.post("/_emulator/snapshots", json={"name": "kept"})
    api.control("reset")
    waited = waiting(text="kept", timeout=60)
    api.send()
    api.control("snapshots/kept/restore")
    assert waited.result(10).json()["text"] == "kept"


def test_a_seq_is_never_given_twice_however_often_the_account_is_set_back(api):
    seen = []
    api.http.post("/_emulator/snapshots", json={"name": "empty"})
    for back in ("reset", "snapshots/empty/restore", "reset"):
        api.send()
        seen += [entry["seq"] for entry in listed(api)]
        api.control(back)
    assert seen == sorted(set(seen))


# What it costs


def test_going_back_forgets_none_of_the_messages_that_are_kept(tmp_path):
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"), snapshots=tmp_path)
        for number in range(600):
            add(account, f"{number}")
        account.snapshot("full")
        for number in range(600):
            add(account, f"forgotten {number}")
        account.restore("full")
        add(account, "one more")
        kept = account.exchanges.oldest(ExchangeFilter(), 1000)
    assert [exchange.text for exchange in kept] == [*map(str, range(101, 600)), "one more"]


def account_with(journal):
    return Account(journal, deriving(b"secret"))


def add(account, text):
    account.exchanges.add(
        presented=(),
        idempotency_key=None,
        request_body=json.dumps({"to": TO, "text": {"body": text}}),
        id=f"req_{account.exchanges.last}",
        at=0.0,
        seconds=0.0,
        status=200,
        message_id=None,
        token_id=None,
        ip="127.0.0.1",
        notes=[],
        request_headers=[],
        response_headers=[],
        response_body="",
    )


def test_a_thousand_messages_cost_fifty_who_wait_a_few_looks_and_not_a_thousand(monkeypatch):
    looks = []

    async def wait_through_a_flood(account):
        oldest = account.exchanges.oldest
        monkeypatch.setattr(
            account.exchanges, "oldest", lambda *asked: looks.append(asked) or oldest(*asked)
        )
        wanted = ExchangeFilter(text="the last")
        waits = [asyncio.create_task(wait_for(account, wanted, 60)) for _ in range(50)]
        for number in range(1000):
            add(account, f"no. {number}")
            await asyncio.sleep(0)
        add(account, "the last")
        return await asyncio.gather(*waits)

    with closing(Journal(None)) as journal:
        found = asyncio.run(wait_through_a_flood(account_with(journal)))
    assert {exchange.text for exchange in found} == {"the last"}
    assert len(looks) < 50 * 300


def test_the_more_wait_the_longer_each_pauses_so_that_all_together_cost_no_more(monkeypatch):
    pauses, waiters = [], 40
    monkeypatch.setattr("cmzon_secrets.emulator.account.waiting.LOOKS", 100)

    async def sleep(seconds, pause=asyncio.sleep):
        pauses.append(seconds)
        await pause(0)

    async def wait_together(account):
        monkeypatch.setattr("cmzon_secrets.emulator.account.waiting.asyncio.sleep", sleep)
        wanted = ExchangeFilter(text="the last")
        waits = [asyncio.create_task(wait_for(account, wanted, 60)) for _ in range(waiters)]
        await asyncio.sleep(0)
        add(account, "another")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        add(account, "the last")
        await asyncio.gather(*waits)

    with closing(Journal(None)) as journal:
        asyncio.run(wait_together(account_with(journal)))
    assert pauses.count(waiters / 100) == waiters


def test_a_look_reads_again_nothing_that_was_read_before(monkeypatch):
    starts = []

    async def wait_in_silence(account):
        oldest = account.exchanges.oldest
        monkeypatch.setattr(
            account.exchanges,
            "oldest",
            lambda wanted, limit: starts.append(wanted.after) or oldest(wanted, limit),
        )
        for number in range(3):
            add(account, f"before {number}")
        waited = asyncio.create_task(wait_for(account, ExchangeFilter(text="the last"), 60))
        await asyncio.sleep(0)
        add(account, "the last")
        await waited

    with closing(Journal(None)) as journal:
        asyncio.run(wait_in_silence(account_with(journal)))
    assert starts == [0, 3]


def test_a_wait_is_not_woken_by_what_is_no_message(monkeypatch):
    told = []

    async def wait_while_clocks_move(account):
        waited = asyncio.create_task(wait_for(account, ExchangeFilter(), 0.2))
        await asyncio.sleep(0)
        monkeypatch.setattr(account.exchanges, "oldest", lambda *asked: told.append(asked) or [])
        account.clear_faults()
        with pytest.raises(TimeoutError):
            await waited

    with closing(Journal(None)) as journal:
        asyncio.run(wait_while_clocks_move(account_with(journal)))
    assert len(told) == 1  # the last look of all


def test_what_comes_in_the_pause_before_the_end_came_in_time(monkeypatch):
    monkeypatch.setattr("cmzon_secrets.emulator.account.waiting.PAUSE", 60.0)

    async def wait_to_the_end(account):
        waited = asyncio.create_task(wait_for(account, ExchangeFilter(text="late"), 0.2))
        await asyncio.sleep(0)
        add(account, "early")
        await asyncio.sleep(0.01)
        add(account, "late")
        return await waited

    with closing(Journal(None)) as journal:
        assert asyncio.run(wait_to_the_end(account_with(journal))).text == "late"
