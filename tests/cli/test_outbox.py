"""``outbox``: what became of queued messages, and what a person decides about the rest."""

from __future__ import annotations

import json

import pytest

from cmzon_secrets import Client
from cmzon_secrets.client import RateLimits
from cmzon_secrets.client.outbox import Outbox
from cmzon_secrets.errors import RequestRejected, TransportError

NUMBER, TEXT = "+12025550123", "Kanarienvogel"


class Refusing(Client):
    """A client whose API refuses, or does not answer, as the text of the message asks."""

    def send_queued(self, message, departing, /):
        departing()
        if message.text.endswith("dead"):
            raise RequestRejected("POST /v1/messages — 422 no such number", status=422)
        raise TransportError("POST /v1/messages — no answer")


@pytest.fixture
def outbox(cli):
    """The path of an outbox with one message that waits, one dead, and one unknown."""
    path = cli.folder / "o.db"
    with (
        Refusing("env:T", limits=RateLimits.unlimited()) as client,
        client.outbox(path) as outbox,
    ):
        for state in ("dead", "unknown"):
            outbox.put(NUMBER, f"{TEXT} {state}", key=f"the-{state}")
        outbox.run(until_empty=True)
        outbox.put(NUMBER, TEXT, key="waiting")
    return "o.db"


@pytest.fixture
def counts(cli, outbox):
    """A function: messages of the outbox by state."""

    def counts():
        with Outbox(cli.folder / outbox) as opened:
            return opened.status()

    return counts


def item(done):
    (found,) = json.loads(done.out)["items"]
    return found


# ── status ──────────────────────────────────────────────────────────────────────────────────────


def test_status_counts_them(cli, outbox):
    done = cli("outbox", "status", outbox)
    assert (done.code, done.err) == (3, ""), "a person has to decide about one"
    assert done.out == "pending  1\nsent     0\nunknown  1\ndead     1\n"
    assert cli("outbox", "drop", outbox, "--unknown", "--yes").code == 0
    assert cli("outbox", "status", outbox).code == 0


def test_the_list_tells_why_and_shows_three_digits_of_the_number(cli, outbox):
    dead, unknown = cli("outbox", "status", outbox, "--list").out.splitlines()[4:]
    assert dead == "dead     the-dead  …123  POST /v1/messages — 422 no such number"
    assert unknown == "unknown  the-unknown  …123  POST /v1/messages — no answer"


def test_as_json_the_list_has_what_a_program_needs_to_decide(cli, outbox):
    found = item(cli("outbox", "status", outbox, "--list", "--json"))
    assert (found["outbox"], found["pending"], found["dead"]) == ("o.db", 1, 1)
    assert set(found["messages"][0]) == {"key", "to", "state", "reason", "tries", "put_at"}
    assert "messages" not in item(cli("outbox", "status", outbox, "--json"))


def test_nobody_sees_a_number_or_a_text(cli, outbox):
    shown = [cli("outbox", "status", outbox, "--list", *more) for more in ([], ["--json"])]
    shown.append(cli("outbox", "retry", outbox, "--dead"))
    shown.append(cli("outbox", "drop", outbox, "--unknown", "--yes"))
    told = "".join(done.out + done.err for done in shown)
    assert "2025550" not in told
    assert TEXT not in told


@pytest.mark.parametrize("verb", [["status"], ["retry", "--dead"], ["drop", "--dead", "--yes"]])
def test_a_look_makes_no_outbox(cli, verb):
    done = cli("outbox", verb[0], "none.db", *verb[1:])
    assert done.code == 1
    assert done.err.startswith("error: none.db — there is no outbox\nhint: ")
    assert not (cli.folder / "none.db").exists()


def test_a_file_that_is_no_outbox_is_said_so(cli):
    (cli.folder / "m.csv").write_text("to,text\n" * 100)
    done = cli("outbox", "status", "m.csv")
    assert done.code == 1
    assert "error: outbox m.csv — " in done.err


# ── retry, drop ─────────────────────────────────────────────────────────────────────────────────


def test_the_dead_wait_again_without_a_question(cli, outbox, counts):
    done = cli("outbox", "retry", outbox, "--dead")
    assert (done.code, done.out) == (0, "1 message will be sent by the next run\n")
    assert counts() == {"pending": 2, "sent": 0, "unknown": 1, "dead": 0}


@pytest.mark.parametrize("chosen", [["--unknown"], ["--key", "the-unknown"]])
def test_what_may_arrive_twice_is_sent_again_only_after_a_question(cli, outbox, counts, chosen):
    refused = cli("outbox", "retry", outbox, *chosen)
    assert refused.code == 2
    assert "hint: give --yes" in refused.err
    terminal = cli.on_terminal("outbox", "retry", outbox, *chosen)
    terminal.expect("1 of them may arrive twice: nobody knows whether they were sent. Go on? [y/N]")
    terminal.type("n\n")
    assert terminal.end() == 2
    assert counts()["unknown"] == 1
    assert cli("outbox", "retry", outbox, *chosen, "--yes").code == 0
    assert counts() == {"pending": 2, "sent": 0, "unknown": 0, "dead": 1}


def test_what_is_dropped_is_gone(cli, outbox, counts):
    terminal = cli.on_terminal("outbox", "drop", outbox, "--dead", "--unknown")
    terminal.expect("Forget all that are dead or unknown, for good? [y/N]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "2 messages forgotten" in terminal.shown
    assert counts() == {"pending": 1, "sent": 0, "unknown": 0, "dead": 0}


def test_one_is_dropped_by_its_key(cli, outbox, counts):
    done = cli("outbox", "drop", outbox, "--key", "waiting", "--key", "none", "--yes", "--json")
    assert (done.code, item(done)["changed"]) == (1, 1)
    assert done.err == "1 of the keys is no such message's\n"
    assert counts()["pending"] == 0


@pytest.mark.parametrize("verb", ["retry", "drop"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_key_of_no_message_is_a_failure(cli, outbox, counts, verb, more):
    before = counts()
    done = cli("outbox", verb, outbox, "--key", "nosuch", "--yes", *more)
    assert done.code == 1
    assert done.err.startswith("error: o.db — no message with this key is there to be changed\n")
    assert "outbox status o.db --list" in done.err
    assert counts() == before


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_it_must_be_said_which(cli, outbox, counts, verb):
    before = counts()
    nothing = cli("outbox", verb, outbox, "--yes")
    both = cli("outbox", verb, outbox, "--yes", "--key", "the-dead", "--dead")
    assert (nothing.code, both.code, counts()) == (2, 2, before)
    assert "give --key, --dead or --unknown" in nothing.err
    assert "cannot go together" in both.err
