"""``send --from-file``: many messages, each sent once, whatever comes in between."""

from __future__ import annotations

import csv
import json
import re
import signal
import sqlite3
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.emulator import Emulator

FAST = ("--per-second", "2000")
"""So that a test does not wait for the vendor's pace."""


@pytest.fixture(scope="module")
def emulator():
    with Emulator(limits=False) as emulator:
        yield emulator


@pytest.fixture
def uri(cli, api):
    """A token that may send; what an earlier test let the API do wrong is over."""
    cli.environment["T"] = api.admin_token
    control(api, "faults", None)
    yield "env:T"
    control(api, "faults", None)


@pytest.fixture
def arrived(api):
    """A function: messages accepted in this test, and requests that the API said so to.

    The second is the larger where one was sent again with its key.
    """

    def counts():
        stats = api.stats()
        return stats["messages"], stats["by_status"].get("200", 0)

    before = counts()
    return lambda: tuple(now - then for now, then in zip(counts(), before, strict=True))


@pytest.fixture
def send(cli, uri):
    """A function: runs ``send`` at a good pace."""
    return lambda *words, **more: cli("send", uri, *FAST, *words, **more)


def control(api, what, body):
    """Tell the emulator something; without a body, to forget it."""
    data = json.dumps(body).encode() if body else None
    method, headers = "POST" if body else "DELETE", {"Content-Type": "application/json"}
    url = f"{api.base_url}/_emulator/{what}"
    urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)).close()


def fault(api, **members):
    control(api, "faults", {"route": "POST /v1/messages", **members})


def number(n):
    return f"+1202555{n:04}"


def write(cli, count, name="m.csv", *, begin=0):
    """A CSV of so many messages, without keys."""
    with (cli.folder / name).open("a", newline="") as file:
        writer = csv.writer(file)
        if not begin:
            writer.writerow(["to", "text"])
        writer.writerows((number(n), f"Hello {n}") for n in range(begin, begin + count))
    return name


def item(done):
    (found,) = json.loads(done.out)["items"]
    return found


# ── each message once ───────────────────────────────────────────────────────────────────────────


def test_every_message_of_a_file_is_sent(cli, send, arrived):
    done = send("--from-file", write(cli, 5))
    assert done.code == 0
    assert done.out.startswith("5 sent in ")
    assert done.err == "outbox m.csv.outbox: 5 queued\n"
    assert arrived() == (5, 5)
    assert (cli.folder / "m.csv.outbox").stat().st_mode & 0o777 == 0o600


def test_the_same_file_again_sends_nothing(cli, send, arrived):
    assert send("--from-file", write(cli, 5)).code == 0
    again = send("--from-file", "m.csv", T="not needed for that")
    assert (again.code, again.out) == (0, "nothing to send\n")
    assert again.err == "outbox m.csv.outbox: 0 queued, 5 in it already\n"
    assert arrived() == (5, 5)


def test_a_line_that_stands_twice_in_the_file_is_not_counted_as_in_the_outbox(cli, send):
    line = f'{{"to": "{number(1)}", "text": "hi", "key": "twice"}}\n'
    (cli.folder / "m.jsonl").write_text(line * 2)
    done = send("--from-file", "m.jsonl")
    assert done.err == "outbox m.jsonl.outbox: 1 queued, 1 twice in the file\n"
    again = send("--from-file", "m.jsonl")
    assert again.err == "outbox m.jsonl.outbox: 0 queued, 1 in it already, 1 twice in the file\n"


def test_a_folder_is_no_file(cli, send):
    done = send("--from-file", str(cli.folder))
    assert done.code == 2
    assert f"{cli.folder} is a folder\nhint: name the file" in done.err


def test_of_a_file_that_has_grown_only_the_new_lines_are_sent(cli, send, arrived):
    assert send("--from-file", write(cli, 3)).code == 0
    write(cli, 2, begin=3)
    assert send("--from-file", "m.csv").out.startswith("2 sent in ")
    assert arrived() == (5, 5)


def test_a_file_that_is_run_again_a_month_later_sends_nothing(cli, send):
    assert send("--from-file", write(cli, 2)).code == 0
    with closing(sqlite3.connect(cli.folder / "m.csv.outbox")) as db, db:
        db.execute("UPDATE messages SET changed_at = changed_at - 30 * 86400")
    write(cli, 1, begin=2)
    assert send("--from-file", "m.csv").out.startswith("1 sent in ")
    # An API that honours keys may have forgotten them by then, so the outbox must not.
    assert send("--from-file", "m.csv").out == "nothing to send\n"


def test_in_another_outbox_the_same_lines_are_new_messages(cli, send, arrived):
    assert send("--from-file", write(cli, 2)).code == 0
    assert send("--from-file", "m.csv", "--outbox", "tomorrow.outbox").code == 0
    assert arrived() == (4, 4)


def test_json_lines_from_standard_input(send, arrived):
    lines = '{"to": "+12025550001", "text": "hi", "key": "a"}\n' * 2
    words = ("--from-file", "-", "--format", "jsonl", "--outbox", "o.db", "--json")
    assert item(send(*words, stdin=lines)) == {
        "account": None,
        "outbox": "o.db",
        "lines": 2,
        "queued": 1,
        "repeated": 1,
        "skipped": [],
        "sent": 1,
        "unknown": 0,
        "dead": 0,
        "left": 0,
        "error": None,
    }
    assert arrived() == (1, 1)


def test_what_waits_in_an_outbox_is_sent_without_a_file(cli, send, arrived):
    from cmzon_secrets.client.outbox import Outbox

    with Outbox(cli.folder / "o.db") as outbox:
        outbox.put(number(1), "put in by another program")
    assert send("--outbox", "o.db").out.startswith("1 sent in ")
    assert arrived() == (1, 1)


def test_a_message_for_later_waits_and_that_is_no_failure(cli, send, arrived):
    later = datetime.now(UTC) + timedelta(days=1)
    line = {"to": number(1), "text": "later", "not_before": later.isoformat()}
    (cli.folder / "m.jsonl").write_text(json.dumps(line))
    done = send("--from-file", "m.jsonl")
    assert (done.code, arrived()) == (0, (0, 0))
    assert "1 left, which wait for their time" in done.err


# ── the whole file is checked first ─────────────────────────────────────────────────────────────


@pytest.fixture
def two_bad_lines(cli):
    text = f'to,text\n{number(1)},one\n2025550000000002x,Kanarienvogel\n{number(3)}\n{number(4)},"four"\n'
    (cli.folder / "m.csv").write_text(text)


@pytest.mark.usefixtures("two_bad_lines")
def test_where_a_line_is_bad_each_is_named_and_nothing_is_queued(cli, send, arrived):
    done = send("--from-file", "m.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        "m.csv:3: to — not a phone number in E.164: + and 7 to 15 digits, the first not 0",
        "m.csv:4: number of fields: 1, in the header: 2; a text with a comma needs quotes",
        "error: m.csv — 2 of 4 lines cannot be sent, and nothing was queued or sent",
        "hint: mend them, or add --skip-bad to send the others",
    ]
    assert arrived() == (0, 0)
    assert not (cli.folder / "m.csv.outbox").exists()


@pytest.mark.usefixtures("two_bad_lines")
def test_with_skip_bad_the_others_are_sent_and_mended_ones_later(cli, send, arrived):
    done = send("--from-file", "m.csv", "--skip-bad", "--json")
    assert done.code == 1
    told = item(done)
    assert (told["sent"], [s["line"] for s in told["skipped"]]) == (2, [3, 4])
    assert told["skipped"][0]["field"] == "to"
    mended = (cli.folder / "m.csv").read_text().replace("2025550000000002x", number(2))
    (cli.folder / "m.csv").write_text(mended.replace(f"{number(3)}\n", f"{number(3)},three\n"))
    assert send("--from-file", "m.csv").out.startswith("2 sent in ")
    assert arrived() == (4, 4)


def test_a_key_that_is_another_messages_in_the_outbox_is_refused(cli, send, arrived):
    (cli.folder / "m.csv").write_text(f"to,text,key\n{number(1)},one,k\n")
    assert send("--from-file", "m.csv").code == 0
    (cli.folder / "m.csv").write_text(f"to,text,key\n{number(1)},two,k\n")
    done = send("--from-file", "m.csv")
    assert done.code == 1
    assert "k is another message's" in done.err
    assert arrived() == (1, 1)


@pytest.mark.parametrize(
    ("words", "why", "code"),
    [
        (["--from-file", "none.csv"], "none.csv — no such file or directory", 1),
        (["--from-file", "."], ". is a folder", 2),
        (["--from-file", "m.txt"], "does not say its format", 2),
        (["--from-file", "-"], "does not say its format", 2),
        (["--from-file", "-", "--format", "csv"], "standard input is no file beside which", 2),
        (["--from-file", "m.csv", "--to", "+12025550001"], "--to is for one message", 2),
        (["--to", "+12025550001", "--text", "hi", "--skip-bad"], "--skip-bad is for many", 2),
        (["--outbox", "m.csv", "--skip-bad"], "--skip-bad is for many", 2),
        (["--from-file", "m.csv", "--new-account", "--per-day", "5"], "cannot go together", 2),
        (["--from-file", "m.csv", "--outbox", "nowhere/o.db"], "nowhere/o.db", 1),
        (["--outbox", "none.db"], "none.db — there is no outbox", 1),
        (["--from-file", "m.csv", "--outbox", "m.csv"], "not a database", 1),
    ],
)
def test_a_command_line_that_cannot_be_meant(cli, send, arrived, words, why, code):
    write(cli, 1)
    done = send(*words)
    assert (done.code, arrived()) == (code, (0, 0))
    assert why in done.err
    assert "Traceback" not in done.err


# ── what was not sent, and what nobody knows ────────────────────────────────────────────────────


def test_a_message_whose_answer_was_lost_needs_a_person(cli, send, api, arrived):
    fault(api, reset=True, after_accept=True, count=1)
    done = send("--from-file", write(cli, 3))
    assert done.code == 3
    assert done.out.startswith("2 sent, 1 unknown in ")
    assert "hint: cmzon-secrets outbox status m.csv.outbox --list" in done.err
    assert arrived() == (3, 2)
    again = send("--from-file", "m.csv")  # … and is not sent again on its own
    assert (again.code, arrived()) == (3, (3, 2))


def test_where_keys_are_trusted_it_is_sent_again_with_the_same_key(cli, send, api, arrived):
    fault(api, reset=True, after_accept=True, count=1)
    done = send("--from-file", write(cli, 3), "--idempotency", "trust")
    assert done.code == 0, done.err
    assert arrived() == (3, 3)


def test_a_message_that_the_api_refuses_is_dead_and_the_others_are_sent(cli, send, api, arrived):
    fault(api, status=422, count=1)
    done = send("--from-file", write(cli, 3))
    assert done.code == 1
    assert done.out.startswith("2 sent, 1 dead in ")
    assert arrived() == (2, 2)


def test_a_refused_token_stops_it_and_no_message_is_to_blame(cli, send, arrived):
    write(cli, 30)
    done = send("--from-file", "m.csv", "--json", T="cmz_revoked")
    told = item(done)
    assert done.code == 1
    assert (told["left"], told["dead"], told["error"]["type"]) == (30, 0, "AuthenticationError")
    assert send("--from-file", "m.csv").code == 0
    assert arrived() == (30, 30)


def test_no_number_and_no_text_is_shown(cli, send, api):
    fault(api, reset=True, after_accept=True, count=1)
    fault(api, status=422, count=1)
    (cli.folder / "m.csv").write_text(f"to,text\n{number(1)},Kanarien\n{number(2)},vogel\n")
    done = send("--from-file", "m.csv")
    looked = cli("outbox", "status", "m.csv.outbox", "--list")
    as_json = cli("outbox", "status", "m.csv.outbox", "--list", "--json")
    shown = "".join(d.out + d.err for d in (done, looked, as_json))
    assert not [word for word in ("2025550", "Kanarien", "vogel") if word in shown]
    assert {m["to"] for m in item(as_json)["messages"]} == {"…001", "…002"}


def test_a_day_that_others_used_up_ends_it_at_once_and_it_says_until_when(cli, send, api):
    fault(api, status=429, retry_after=56_050, count=1000)
    write(cli, 1)
    began = time.monotonic()
    done = send("--from-file", "m.csv")
    assert time.monotonic() - began < 60
    assert done.code == 1
    assert re.search(
        r"hint: the API asks to wait until \d{4}-\d\d-\d\d \d\d:\d\d UTC \(in 16h\)\n", done.err
    ), done.err
    assert "1 left: the same command goes on" in done.err


def test_the_days_messages_are_counted_from_command_to_command(cli, uri, arrived):
    write(cli, 8)
    words = ("send", uri, *FAST, "--per-day", "5", "--from-file", "m.csv", "--json")
    first = cli(*words)
    assert (first.code, item(first)["sent"], item(first)["left"]) == (1, 5, 3)
    assert item(first)["error"]["type"] == "DailyLimitReached"
    assert "the count ends at" in item(first)["error"]["hint"]
    assert "3 left: the same command goes on" in first.err
    second = cli(*words)
    assert (second.code, item(second)["sent"], arrived()) == (1, 0, (5, 5))
    elsewhere = cli(*words, "--limits-state", "another.db")
    assert (elsewhere.code, item(elsewhere)["sent"], arrived()) == (0, 3, (8, 8))


def test_commands_that_name_one_redis_share_the_day(cli, uri, arrived, redis_server):
    cli.environment["CMZON_LIMITS_URL"] = redis_server.url(9)
    some = write(cli, 6)
    nameless = cli("send", uri, "--from-file", some, "--per-day", "4")
    assert (nameless.code, arrived()[0]) == (1, 0)
    assert "error: CMZON_ACCOUNT — it is not set" in nameless.err
    assert redis_server.password not in nameless.err
    cli.environment["CMZON_ACCOUNT"] = f"acme-{time.monotonic_ns()}"
    for _ in range(2):  # of those under way when the day is over, some give their place back
        done = cli("send", uri, *FAST, "--from-file", some, "--per-day", "4")
    assert (done.code, arrived()[0]) == (1, 4)
    again = cli("send", uri, "--to", "+4915112345999", "--text", "hi", "--per-day", "4")
    assert (again.code, arrived()[0]) == (1, 4)
    assert "daily limit" in again.err


def test_a_redis_that_is_away_is_warned_of_once(cli, send, arrived):
    cli.environment |= {"CMZON_LIMITS_URL": "redis://u:sekret@127.0.0.1:1/0", "CMZON_ACCOUNT": "a"}
    done = send("--from-file", write(cli, 3))
    assert (done.code, arrived()[0]) == (0, 3)
    warnings = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert warnings == [
        "warning: limits — redis://127.0.0.1:1/0 (ConnectionError): keeping to 1/8 of them"
    ]


@pytest.mark.slow
def test_a_new_account_has_1000_messages_a_day(cli, send, arrived):
    done = send("--new-account", "--from-file", write(cli, 1_100))
    assert done.code == 1
    assert "the day's 1000 messages are used up" in done.err
    assert 900 < arrived()[0] <= 1_000  # of those under way at the end, some give their place back


# ── interrupted, killed ─────────────────────────────────────────────────────────────────────────


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_says_what_is_left_and_goes_on(cli, uri, arrived, number):
    write(cli, 100)
    process = cli.start("send", uri, "--from-file", "m.csv")
    wait_until(lambda: arrived()[0] > 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "left; nothing is lost: the same command goes on where this one stopped" in err
    assert "unknown" not in out
    assert "Traceback" not in err
    sent = arrived()[0]
    assert out.startswith(f"{sent} sent, {100 - sent} left in ")
    assert cli("send", uri, *FAST, "--from-file", "m.csv").code == 0
    assert arrived() == (100, 100)


def test_interrupted_twice_it_does_not_wait_for_an_answer(cli, uri, api, arrived):
    write(cli, 1)
    fault(api, latency=30, count=1)
    process = cli.start("send", uri, "--from-file", "m.csv")
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    while "stopping when" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)  # the client itself waits for 10
    assert process.returncode == 130
    assert "the next run finds what was under way to be unknown" in err
    control(api, "faults", None)
    assert cli("send", uri, "--from-file", "m.csv").code == 3


def test_interrupted_while_it_reads_nothing_is_queued(cli, uri, arrived):
    process = cli.start(
        "send", uri, "--from-file", "-", "--format", "csv", "--outbox", "o.db", stdin=-1
    )
    process.stdin.write("to,text\n+12025550001,hi\n")
    process.stdin.flush()
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted before anything was sent; the same command begins again\n"
    assert not (cli.folder / "o.db").exists()


@pytest.mark.slow
def test_killed_again_and_again_each_of_2000_messages_arrives_once(cli, uri, arrived):
    write(cli, 2_000)
    words = ("send", uri, *FAST, "--from-file", "m.csv", "--json")
    for part in (1, 2, 3):
        process = cli.start(*words)
        wait_until(lambda part=part: arrived()[0] > 400 * part)
        process.kill()
        process.communicate()
    told = item(cli(*words))
    assert (told["lines"], told["queued"], told["left"], told["dead"]) == (2_000, 0, 0, 0)
    messages, accepted = arrived()
    assert messages == accepted  # none was sent again, not even with its key
    assert 2_000 - told["unknown"] <= messages <= 2_000  # what is missing is known to be unknown


# ── what is shown meanwhile ─────────────────────────────────────────────────────────────────────


def test_a_terminal_shows_a_bar_with_the_rate_and_a_dumb_one_does_not(cli, uri):
    write(cli, 60)
    terminal = cli.on_terminal("send", uri, "--from-file", "m.csv", NO_COLOR="1")
    assert terminal.end() == 0
    assert "sending" in terminal.shown
    assert "60/60" in terminal.shown
    assert "/s" in terminal.shown
    assert "60 sent in " in terminal.shown
    plain = cli.on_terminal("send", uri, "--from-file", write(cli, 1, "n.csv"), TERM="dumb")
    assert plain.end() == 0
    assert "sending" not in plain.shown
