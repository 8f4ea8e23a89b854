"""``rotate --all``: many accounts at once, each failure its own."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request

import pytest

from cmzon_secrets.emulator import Emulator
from servers.fleets import Accounts, items, kinds, place

PATIENCE = 60.0  # seconds; for a loaded machine


@pytest.fixture
def accounts(cli, api):
    """A function: so many accounts, in sealed files, at the emulator."""
    assert cli("keygen", "token.key").code == 0
    return lambda count: Accounts(cli.folder, count)


@pytest.fixture
def slow(api):
    """A function: each call of a route takes so many seconds from now on."""

    def slow(route: str, latency: float) -> None:
        _control(api, "faults", {"route": route, "latency": latency, "count": 100_000})

    yield slow
    _control(api, "faults", None)


def _control(api, what, body):
    """Tell the emulator something; without a body, to forget it."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(
        f"{api.base_url}/_emulator/{what}",
        data,
        {"Content-Type": "application/json"},
        method="POST" if body else "DELETE",
    )
    urllib.request.urlopen(request).close()


def sealed_places(cli):
    return {path.stem for path in (cli.folder / "places").glob("*.sealed")}


# ── every account ───────────────────────────────────────────────────────────────────────────────


def test_every_account_gets_its_token_and_one_line_tells_it(cli, accounts):
    accounts(5)
    assert cli("rotate", "--all").code == 0
    done = cli("rotate", "--all", "--force")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("5 done in ")
    assert len(sealed_places(cli)) == 5


def test_places_that_held_nothing_are_named_for_one_may_be_mistyped(cli, accounts):
    accounts(7)
    done = cli("rotate", "--all")
    assert done.err.startswith("the first token of: ")
    assert done.err.endswith(" and 2 more\n")
    assert "first token" not in cli("rotate", "--all").err


def test_as_json_there_is_an_item_per_account_in_the_order_of_the_file(cli, accounts):
    fleet = accounts(12)
    found = items(cli("rotate", "--all", "--json"))
    assert list(found) == list(fleet)
    assert all(kinds(item) == ["issue", "stage", "promote"] for item in found.values())
    fields = {"account", "uri", "state", "actions", "reason", "next_due", "error"}
    assert set(found["acme-000"]) == fields


def test_a_run_with_nothing_due_changes_nothing(cli, accounts):
    accounts(3)
    assert cli("rotate", "--all").code == 0
    again = items(cli("rotate", "--all", "--json"))
    assert [kinds(item) for item in again.values()] == [[], [], []]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(cli, accounts):
    accounts(2)
    done = cli("rotate", "--all", "--dry-run")
    assert done.out.startswith("done       acme-000 — would issue, stage, promote\n")
    assert cli("status", "--not-done").code == 3
    assert all(
        item["stages"]["current"] is None for item in items(cli("status", "--json")).values()
    )


def test_options_win_over_what_every_account_says(cli, accounts):
    fleet = accounts(2)
    fleet.change("acme-000", scopes=["whatsapp_business"])
    done = cli("rotate", "--all", "--scope", "audit:read", "--expires-in", "90d")
    assert done.code == 0, done.err
    for item in items(cli("status", "--json")).values():
        assert item["stages"]["current"]["scopes"] == ["audit:read"]
        assert item["stages"]["current"]["expires_at"] is not None
    admin = cli("rotate", "--all", "--force", "--admin", "env:NOT_SET", "--json")
    assert admin.code == 1
    assert {item["state"] for item in items(admin).values()} == {"failed"}


def test_a_terminal_shows_a_bar_and_a_pipe_does_not(cli, accounts):
    accounts(3)
    terminal = cli.on_terminal("rotate", "--all", NO_COLOR="1")
    assert terminal.end() == 0
    assert "rotating" in terminal.shown
    assert "3/3" in terminal.shown
    assert "3 done in " in terminal.shown
    assert "\x1b[3" not in terminal.shown  # no colour
    assert "rotating" not in cli("rotate", "--all").err
    plain = cli.on_terminal("rotate", "--all", TERM="dumb")
    assert plain.end() == 0
    assert "rotating" not in plain.shown


# ── each failure is its own ─────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_accounts_broken_in_each_way_leave_the_two_hundred_others_alone(strict_aws, accounts, cli):
    fleet = accounts(200)
    assert cli("keygen", "other.key").code == 0
    fleet.change("wrong-key", token=place("wrong-key"))
    assert cli("rotate", "--account", "wrong-key").code == 0
    fleet.change("wrong-key", token=place("wrong-key", key="other.key"))
    fleet.change("no-key", token=place("no-key", key="missing.key"))
    fleet.change("no-secret", token="awssecretsmanager://prod/mistyped")
    fleet.change("no-folder", token="file:nowhere/t.sealed?key=keyfile:token.key")
    fleet.change("read-only", token=_in_a_read_only_folder(cli.folder))
    fleet.change("scope", token=place("scope"), scopes=["tokens:mangle"])
    fleet.change("twice", token="file:places/../places/acme-007.sealed?key=keyfile:token.key")
    fleet.change("by-hand", token=place("by-hand"), issuer="manual")
    fleet.change("for-reading", token="env:ADMIN_TOKEN")
    done = cli("rotate", "--all", "--json")
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    found = items(done)
    told = {name: (item["state"], str(item["reason"])) for name, item in found.items()}
    for name, words in {
        "wrong-key": "wrong-key.sealed",
        "no-key": "missing.key",
        "no-secret": "there is no such secret",
        "no-folder": "nowhere",
        "read-only": "read-only.sealed",
        "scope": "tokens:mangle",
    }.items():
        state, reason = told.pop(name)
        assert state == "failed", (name, reason)
        assert words in reason
        assert found[name]["error"]["message"]
    assert told.pop("by-hand")[0] == "attention"
    assert told.pop("for-reading") == ("done", "read-only: whoever fills it rotates it")
    pair = {name: told.pop(name) for name in ("acme-007", "twice")}
    assert sorted(state for state, _ in pair.values()) == ["done", "failed"]
    assert "names the same place as account" in " ".join(reason for _, reason in pair.values())
    assert set(told.values()) == {("done", "")}
    assert len(told) == 199
    assert "cmz_" not in done.out + done.err


def _in_a_read_only_folder(folder):
    """To root only the kernel says no."""
    if os.geteuid() == 0:
        return "file:/sys/read-only.sealed?key=keyfile:token.key"
    (folder / "closed").mkdir(mode=0o500)
    return "file:closed/read-only.sealed?key=keyfile:token.key"


def test_what_failed_has_a_line_and_each_remedy_is_told_once(cli, accounts):
    fleet = accounts(4)
    for name in ("acme-001", "acme-002"):
        fleet.change(name, token=place(name, key="missing.key"))
    done = cli("rotate", "--all")
    assert done.code == 1
    *lines, summary = done.out.splitlines()
    assert [line.split()[:2] for line in lines] == [["failed", "acme-001"], ["failed", "acme-002"]]
    assert summary.startswith("2 done, 2 failed in ")
    assert done.err.count("hint:") == 1
    assert "(2 accounts)" in done.err


def test_whoever_needs_a_person_makes_exit_code_3(cli, accounts):
    fleet = accounts(2)
    fleet.change("acme-001", issuer="manual")
    done = cli("rotate", "--all")
    assert done.code == 3
    assert "attention  acme-001 — its issuer needs a person" in done.out


def test_an_issuer_that_is_down_is_given_up_and_not_waited_for_by_each(cli, accounts):
    accounts(60)
    begun = time.monotonic()
    done = cli("rotate", "--all", CMZON_BASE_URL="http://127.0.0.1:9")
    assert done.code == 1
    assert done.out.splitlines()[-1].startswith("60 failed in ")
    assert "its issuer does not answer" in done.out
    assert time.monotonic() - begun < PATIENCE


# ── cut short, and gone on with ─────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_killed_in_the_middle_the_next_run_goes_on_and_leaves_nothing_behind(cli, accounts):
    fleet = accounts(200)
    with Emulator() as api:  # of its own: its clock will be moved
        cli.environment |= {"CMZON_BASE_URL": api.base_url, "ADMIN_TOKEN": api.admin_token}
        before = api.stats()["tokens"]["live"]
        process = cli.start("rotate", "--all")
        _wait_until(lambda: len(sealed_places(cli)) >= 60)
        process.kill()
        process.communicate(timeout=PATIENCE)
        assert len(sealed_places(cli)) < 200
        done = cli("rotate", "--all", "--json")
        assert done.code == 0, done.err
        found = items(done)
        assert {item["state"] for item in found.values()} == {"done"}
        assert any(not item["actions"] for item in found.values()), (
            "what was done is not done again"
        )
        _control(api, "clock", {"advance": 7200})  # seconds; what was lost is an orphan by now
        assert cli("rotate", "--all").code == 0
        assert api.stats()["tokens"]["live"] - before == len(list(fleet)), "one live token each"


def _wait_until(ready):
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_tells_what_is_done_and_begins_nothing_more(
    cli, accounts, slow, number, code
):
    accounts(40)
    slow("POST /v1/tokens", 0.2)
    process = cli.start("rotate", "--all", "--concurrency", "2", "--json", "--metrics", "m.prom")
    _wait_until(lambda: len(sealed_places(cli)) >= 6)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "the same command goes on where this one stopped" in err
    states = [(item["state"], item["reason"]) for item in json.loads(out)["items"]]
    assert len(states) == 40
    unfinished = ("waiting", "interrupted before its end; the next run goes on from here")
    assert 0 < states.count(unfinished) < 40
    assert len(sealed_places(cli)) < 40
    assert "cmzon_rotation_accounts_not_begun " in (cli.folder / "m.prom").read_text()


def test_after_the_time_limit_nothing_more_is_begun_and_the_rest_is_for_the_next_run(
    cli, accounts, slow
):
    accounts(30)
    slow("POST /v1/tokens", 0.3)
    limits = ["--concurrency", "2", "--time-limit", "1"]
    done = cli("rotate", "--all", *limits, "--json", "--metrics", "m.prom")
    assert done.code == 0, done.err
    reasons = [str(item["reason"]) for item in items(done).values()]
    not_begun = sum(r.startswith("not begun within the time limit") for r in reasons)
    assert 0 < not_begun < 30
    measured = (cli.folder / "m.prom").read_text()
    assert f"cmzon_rotation_accounts_not_begun {not_begun}\n" in measured
    assert measured.count("cmzon_rotation_last_run_timestamp_seconds{") == 30 - not_begun


# ── refused before anything is begun ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        ["--all", "file:t"],
        ["--all", "--account", "acme-000"],
        ["--all", "--rollback"],
        ["--all", "--name", "one-for-all"],
        ["--all", "--concurrency", "0"],
        ["--all", "--dry-run", "--metrics", "m.prom"],
        ["--all", "--metrics", "no/such/folder/m.prom"],
        ["--account", "acme-000", "--per-service", "3"],
        ["--account", "acme-000", "--time-limit", "3s"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(cli, accounts, words):
    accounts(1)
    done = cli("rotate", *words)
    assert done.code == 2, done.err
    assert sealed_places(cli) == set()


def test_without_a_configuration_file_it_says_how_to_make_one(cli, api):
    done = cli("rotate", "--all")
    assert done.code == 1
    assert "cmzon-secrets.toml — there is none in this folder or above it" in done.err
    assert "hint: " in done.err


def test_a_file_without_accounts_is_no_fleet(cli, accounts):
    accounts(0)
    done = cli("rotate", "--all")
    assert done.code == 1
    assert "there is no account in it" in done.err


@pytest.mark.parametrize("words", [["--all"], ["--account", "acme-001"]], ids=" ".join)
def test_a_policy_that_contradicts_itself_is_refused_with_its_line(cli, accounts, words):
    fleet = accounts(2)
    fleet.change("acme-001", grace="10s")
    done = cli("rotate", *words)
    assert done.code == 1
    assert "cmzon-secrets.toml:8 — rotation policy 'acme-001' — grace 10s < reader_ttl" in done.err
    assert sealed_places(cli) == set()


def test_a_policy_that_contradicts_itself_on_the_command_line_is_a_usage_error(cli, accounts):
    accounts(2)
    assert cli("rotate", "--all", "--grace", "10s").code == 2
    assert sealed_places(cli) == set()


def test_events_tell_each_step_in_lines_that_only_the_owner_reads(cli, accounts):
    accounts(3)
    for _ in range(2):
        assert cli("rotate", "--all", "--events", "events.jsonl").code == 0
    path = cli.folder / "events.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    events = [json.loads(line) for line in path.read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names.count("token_promoted") == 3
    assert names.count("rotation_finished") == 6
    assert {"event", "at", "uri", "token_id", "facts"} == set(events[0])
    assert "cmz_" not in path.read_text()


def test_events_on_standard_error_leave_the_document_alone(cli, accounts):
    accounts(1)
    done = cli("rotate", "--account", "acme-000", "--events", "-", "--json")
    assert json.loads(done.out)["items"][0]["state"] == "done"
    assert "token_promoted" in [json.loads(line)["event"] for line in done.err.splitlines()]


def test_events_that_cannot_be_opened_are_a_reason_not_to_begin(cli, accounts):
    accounts(1)
    done = cli("rotate", "--all", "--events", "no/such/folder/e")
    assert done.code == 1
    assert "events cannot be written there" in done.err
    assert sealed_places(cli) == set()


def test_events_that_cannot_be_written_any_more_stop_nothing(cli, accounts):
    accounts(2)
    done = cli("rotate", "--all", "--events", "/dev/full")
    assert done.code == 0
    assert done.err.startswith("warning: /dev/full — events are lost: no space left on device\n")
    assert len(sealed_places(cli)) == 2


# ── status ──────────────────────────────────────────────────────────────────────────────────────


def test_status_says_in_a_word_how_each_stands_in_the_order_of_the_file(cli, accounts):
    fleet = accounts(3)
    assert cli("rotate", "--all").code == 0
    fleet.change("acme-001", rotate_every="0.01s")
    fleet.change("empty", token=place("empty"))
    fleet.change("broken", token=place("broken"))
    assert cli("rotate", "--account", "broken").code == 0
    fleet.change("broken", token=place("broken", key="missing.key"))
    done = cli("status")
    assert done.code == 1
    assert "attention — overdue: CURRENT is " in done.out
    assert "attention — overdue: there is no CURRENT token" in done.out
    assert done.out.splitlines()[-1] == "5 accounts: 2 fine, 2 overdue, 1 failed"
    assert list(items(cli("status", "--json"))) == list(fleet)
    assert list(items(cli("status", "--json", "--not-done"))) == ["acme-001", "empty", "broken"]
    part = cli("status", "--not-done").out
    assert "acme-000" not in part
    assert part.splitlines()[-1] == "5 accounts: 2 fine, 2 overdue, 1 failed"
