"""Rehearses docs/runbook.md: makes happen what a section speaks of, types its commands, and looks."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from cmzon_secrets import Token, TokenStore, open_store
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from servers.fleets import Accounts, items, place
from servers.programs import programs

PAGE = Path(__file__).parents[2] / "docs" / "runbook.md"
PATIENCE = 60.0  # seconds; for a loaded machine
AT_ONCE = 30.0  # seconds; what a kill may take on a loaded machine


def sections() -> dict[str, list[str]]:
    """Heading → the commands in its console blocks."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        blocks = re.findall(r"^ *```console\n(.*?)^ *```", body, flags=re.MULTILINE | re.DOTALL)
        lines = [line.strip() for block in blocks for line in block.splitlines()]
        found[heading] = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return found


@dataclass(frozen=True)
class Typed:
    """A command of the page that was typed: how it ended, and after how many seconds."""

    command: str
    code: int
    out: str
    err: str
    took: float


class Site:
    """Two accounts in sealed files, the admin token in a third, and the API."""

    def __init__(self, cli, api):
        self.cli, self.api = cli, api
        generate_key_file(str(cli.folder / "token.key"))
        self.admin = place("admin")
        self.accounts = Accounts(cli.folder, 0)
        self.accounts.settings = {name: {"token": place(name)} for name in ("acme", "beta")}
        self.accounts.write(f'base_url = "{api.base_url}"\n')
        cli.environment |= {"CMZON_ADMIN_URI": self.admin}
        with self.store("admin") as admin:
            admin.stage(token := Token(api.admin_token))
            admin.promote(token.id, replacing=None)
        assert cli("rotate", "--all", "--events", "events.jsonl").code == 0
        programs(cli.folder / ".bin")

    def type(self, heading: str, *, token_id: str = "", stdin: str = "") -> list[Typed]:
        """What the section says, word by word but for the id."""
        typed = []
        for command in sections()[heading]:
            began = time.monotonic()
            done = subprocess.run(
                ["sh", "-c", re.sub(r"\bID\b", token_id, command).replace("sleep 5", "sleep 0.2")],
                check=False,
                capture_output=True,
                input=stdin,
                text=True,
                cwd=self.cli.folder,
                env={
                    **self.cli.environment,
                    "PATH": f"{self.cli.folder}/.bin:{self.cli.environment['PATH']}",
                },
                timeout=PATIENCE,
            )
            took = time.monotonic() - began
            print(f"{took:5.2f} s  {done.returncode}  {command}")
            assert "cmz_" not in done.stdout + done.stderr
            typed.append(Typed(command, done.returncode, done.stdout, done.stderr, took))
        return typed

    def store(self, name: str) -> TokenStore:
        folder = self.cli.folder
        return open_store(f"file:{folder}/places/{name}.sealed?key=keyfile:{folder}/token.key")

    def held(self, account: str, stage: str = "current") -> str | None:
        """The id in a stage."""
        with self.store(account) as store:
            token = getattr(store.versions(), stage)
        return token and token.id

    def value(self, account: str) -> str:
        with self.store(account) as store:
            return store.get().reveal()

    def lives(self, value: str) -> bool:
        """What the API says of a token, asked with the token itself."""
        request = urllib.request.Request(
            f"{self.api.base_url}/v1/tokens/self", headers={"Authorization": f"Bearer {value}"}
        )
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code != 401
        return True

    def as_admin(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """In the dashboard, so to speak."""
        request = urllib.request.Request(
            f"{self.api.base_url}{path}",
            json.dumps(body).encode() if body else None,
            {
                "Authorization": f"Bearer {self.api.admin_token}",
                "Content-Type": "application/json",
            },
            method=method,
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"{}")

    def fault(self, **what: object) -> None:
        self.as_admin("POST", "/_emulator/faults", what)


@pytest.fixture
def site(cli, api):
    return Site(cli, api)


REHEARSED = set()


def rehearses(heading):
    REHEARSED.add(heading)
    return pytest.mark.slow


def codes(typed):
    return [step.code for step in typed]


@rehearses("A token has leaked")
def test_a_leaked_token_is_replaced_and_dead_at_once(site):
    leaked, leaked_id = site.value("acme"), site.held("acme")
    kill, repeat, by_alert = site.type("A token has leaked", token_id=leaked_id)
    assert codes([kill, repeat, by_alert]) == [0, 0, 0]
    assert kill.took < AT_ONCE
    assert kill.err.startswith(f"revoking {leaked_id}")
    assert not site.lives(leaked)
    assert site.held("acme") not in (leaked_id, None)
    assert site.lives(site.value("acme"))
    assert items_of(by_alert)["acme"]["state"] == "done"
    named = [
        json.loads(line) for line in (site.cli.folder / "events.jsonl").read_text().splitlines()
    ]
    assert ("emergency_started", leaked_id) in [(e["event"], e["token_id"]) for e in named]


def items_of(step):
    return {item["account"]: item for item in json.loads(step.out)["items"]}


@rehearses("A token has leaked")
def test_called_by_an_alert_alone_it_kills_as_well(site):
    leaked, leaked_id = site.value("acme"), site.held("acme")
    command = sections()["A token has leaked"][-1].split()
    words = [leaked_id if word == "ID" else word for word in command[1:]]
    done = site.cli(*words)
    assert done.code == 0, done.err
    assert items(done)["acme"]["state"] == "done"
    assert not site.lives(leaked)
    assert site.lives(site.value("acme"))


@rehearses("All tokens of an account may have leaked")
def test_every_token_of_an_account_dies_but_the_new_one(site):
    values = [site.value("acme")]
    assert site.cli("rotate", "--account", "acme", "--force").code == 0
    values.append(site.value("acme"))
    stray = _issued_under_the_name_of(site, "acme")
    (kill,) = site.type("All tokens of an account may have leaked")
    assert kill.code == 0, kill.err
    assert kill.took < AT_ONCE
    assert f"revoking {stray['id']}, held by no store" in kill.err
    assert [site.lives(value) for value in [*values, stray["token"]]] == [False] * 3
    assert site.lives(site.value("acme"))
    assert site.lives(site.value("beta"))


def _issued_under_the_name_of(site, account):
    """A token that some run asked for and nobody stored."""
    own = {"Authorization": f"Bearer {site.value(account)}"}
    request = urllib.request.Request(f"{site.api.base_url}/v1/tokens/self", headers=own)
    with urllib.request.urlopen(request) as answer:
        name = json.load(answer)["name"]
    return site.as_admin("POST", "/v1/tokens", {"name": name, "scopes": ["messages:send"]})


@rehearses("Many accounts have leaked")
def test_of_many_accounts_those_that_could_not_be_helped_are_on_a_list(site):
    leaked = site.value("acme")
    (site.cli.folder / "places" / "beta.sealed").write_text("altered")
    loop, look = site.type("Many accounts have leaked")
    assert not site.lives(leaked)
    assert (site.cli.folder / "still-alive.txt").read_text() == "beta\n"
    assert "STILL ALIVE" in loop.err
    assert (look.code, "1 failed" in look.out) == (1, True)


@rehearses("The admin token has leaked")
def test_a_leaked_admin_token_is_replaced_by_hand_and_killed(site):
    fresh = site.as_admin("POST", "/v1/tokens", {"name": "admin-2", "scopes": ["tokens:manage"]})
    old = site.as_admin("POST", "/v1/tokens", {"name": "admin-1", "scopes": ["tokens:manage"]})
    assert site.cli("put", site.admin, "--discard-previous", stdin=str(old["token"])).code == 0
    before = site.held("acme")
    put, kill, renew = site.type(
        "The admin token has leaked", token_id=str(old["id"]), stdin=str(fresh["token"])
    )
    assert codes([put, kill, renew]) == [0, 0, 0], kill.err + renew.err
    assert not site.lives(str(old["token"]))
    assert site.lives(str(fresh["token"]))
    assert site.held("acme") not in (before, None)


@rehearses("The store cannot be reached")
def test_without_the_store_the_issuer_alone_kills(site):
    leaked, leaked_id = site.value("acme"), site.held("acme")
    (site.cli.folder / "places" / "acme.sealed").write_text("altered")
    doctor, kill = site.type("The store cannot be reached", token_id=leaked_id)
    assert (doctor.code, "acme.sealed" in doctor.out) == (3, True)
    assert kill.code == 0, kill.err
    assert "compare it" in kill.out
    assert kill.took < AT_ONCE
    assert not site.lives(leaked)


@rehearses("The API cannot be reached")
def test_while_the_api_is_down_it_is_tried_until_the_token_is_dead(site):
    leaked, leaked_id = site.value("acme"), site.held("acme")
    site.fault(route="DELETE /v1/tokens/{id}", status=503, count=2)
    (kill,) = site.type("The API cannot be reached", token_id=leaked_id)
    assert "STILL ALIVE" in kill.err, "it is not over before it has failed once"
    assert not site.lives(leaked)
    assert site.lives(site.value("acme"))


@rehearses("A rotation is stuck")
def test_what_is_stuck_is_told_and_previous_goes_when_it_is_told_to(site):
    assert site.cli("rotate", "--account", "acme", "--force").code == 0
    previous = site.held("acme", "previous")
    status, dry, doctor, kill, back = site.type("A rotation is stuck")
    assert (status.code, dry.code) == (0, 0)
    assert previous in status.out
    assert doctor.out
    assert kill.code == 0, kill.err
    assert f"{previous} is dead" in kill.out
    assert back.code == 1
    assert "there is no PREVIOUS to roll back to" in back.err


def test_a_bad_token_is_taken_back_while_its_predecessor_lives(site):
    before = site.held("acme")
    assert site.cli("rotate", "--account", "acme", "--force").code == 0
    back = sections()["A rotation is stuck"][-1]
    assert site.cli(*back.split()[1:]).code == 0
    assert site.held("acme") == before


@rehearses("A run is missing")
def test_a_run_that_is_missing_is_made_by_hand(site):
    run, look = site.type("A run is missing")
    assert codes([run, look]) == [0, 0]
    assert "cmzon_rotation_run_timestamp_seconds" in (site.cli.folder / "cmzon.prom").read_text()


@rehearses("A store is lost")
def test_a_lost_store_is_filled_anew_and_what_it_held_dies(site):
    lost, lost_id = site.value("acme"), site.held("acme")
    (site.cli.folder / "places" / "acme.sealed").unlink()
    fill, ids, kill = site.type("A store is lost", token_id=lost_id)
    assert codes([fill, ids, kill]) == [0, 0, 3], kill.err
    assert lost_id in ids.out.split()
    assert not site.lives(lost)
    assert site.lives(site.value("acme"))


@rehearses("A machine was copied")
def test_a_copied_machine_gets_a_place_of_its_own_and_neither_kills_the_others_token(site):
    path = site.cli.folder / "places" / "acme.sealed"
    originals, sealed = site.value("acme"), path.read_bytes()
    path.unlink()  # from here on, this is the copy
    (fill,) = site.type("A machine was copied")
    assert fill.code == 0
    copys = site.value("acme")
    assert copys != originals
    path.write_bytes(sealed)  # and this the original again
    for words in (["--force"], []):
        assert site.cli("rotate", "--account", "acme", *words).code == 0
    assert all(map(site.lives, (originals, copys, site.value("acme"))))


def test_every_section_that_says_what_to_type_is_rehearsed():
    assert {heading for heading, commands in sections().items() if commands} == REHEARSED


def test_every_link_within_the_page_leads_somewhere():
    page = PAGE.read_text()
    anchors = {heading.lower().replace(" ", "-") for heading in sections()}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    rules = (PAGE.parents[1] / "examples/prometheus/cmzon-rotation.rules.yml").read_text()
    assert set(re.findall(r"docs/runbook\.md#(\S+)", rules)) <= anchors
