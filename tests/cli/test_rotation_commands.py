"""``rotate``, ``revoke`` and ``send`` against a real API, as programs use them and as people do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from cmzon_secrets import Token, open_store

TOKEN = "cmz_" + "Kanarienvogel" * 3


@pytest.fixture
def rotated(cli, sealed, api):
    """A sealed file with a token that the API made."""
    assert cli("rotate", sealed).code == 0
    return sealed


def item(done):
    (found,) = json.loads(done.out)["items"]
    return found


def current(cli, uri):
    return item(cli("get", uri, "--json"))


def sends(cli, uri):
    return cli("send", uri, "--to", "+12025550123", "--text", "hi").code == 0


def fault(api, **what):
    body = json.dumps({"count": 1, **what}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{api.base_url}/_emulator/faults", body, headers)
    urllib.request.urlopen(request).close()


def as_bearer(api, path, value, body=None):
    headers = {"Authorization": f"Bearer {value}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{api.base_url}{path}", data, headers)
    ) as answer:
        return json.load(answer)


def own_id(api, value=None):
    """What the API says of a token, asked with the token itself; by default that of the admin."""
    return as_bearer(api, "/v1/tokens/self", value or api.admin_token)["id"]


def issued_admin(api):
    wanted = {"name": "second admin", "scopes": ["tokens:manage"]}
    return as_bearer(api, "/v1/tokens", api.admin_token, wanted)["token"]


def test_a_report_as_json_has_the_fields_of_the_contract(cli, rotated):
    report = item(cli("rotate", rotated, "--force", "--json"))
    assert set(report) == {"account", "uri", "state", "actions", "reason", "next_due", "error"}
    assert [action["kind"] for action in report["actions"]] == ["issue", "stage", "promote"]
    assert set(report["actions"][0]) == {"kind", "token_id", "outcome"}
    assert report["error"] is None


def test_options_shape_the_token_that_is_made(cli, sealed, api):
    done = cli(
        "rotate", sealed, "--name", "mine", "--scope", "messages:send", "--scope", "audit:read",
        "--allowed-ip", "127.0.0.1", "--allowed-ip", "10.0.0.0/8", "--expires-in", "90d",
    )  # fmt: skip
    assert done.code == 0, done.err
    made = current(cli, sealed)
    assert made["scopes"] == ["messages:send", "audit:read"]
    assert made["allowed_ips"] == ["127.0.0.1", "10.0.0.0/8"]
    assert made["expires_at"] is not None


def test_a_dry_run_changes_nothing(cli, rotated):
    before = (cli.folder / "token.sealed").read_bytes()
    report = item(cli("rotate", rotated, "--force", "--dry-run", "--json"))
    assert {action["outcome"] for action in report["actions"]} == {"planned"}
    assert (cli.folder / "token.sealed").read_bytes() == before


def test_force_and_rollback_cannot_both_be_meant(cli, rotated):
    assert cli("rotate", rotated, "--force", "--rollback").code == 2


def test_the_replaced_token_is_revoked_when_its_grace_is_over(cli, rotated):
    short = ["--grace", "0.3", "--reader-ttl", "0.1", "--request-deadline", "0.1", "--json"]
    old = current(cli, rotated)["id"]
    kinds: set[str] = set()
    assert cli("rotate", rotated, "--force", *short).code == 0
    for _ in range(50):
        kinds |= {a["kind"] for a in item(cli("rotate", rotated, *short))["actions"]}
        if "revoke" in kinds:
            break
    assert {"revoke", "discard"} <= kinds
    assert current(cli, rotated)["id"] != old


def test_a_policy_that_is_legal_but_risky_is_warned_of(cli, rotated):
    terminal = cli.on_terminal("rotate", rotated, "--grace", "1h")
    assert terminal.end() == 0
    assert terminal.shown.startswith("warning: grace 1")
    assert "is not longer than" in terminal.shown
    piped = cli("rotate", rotated, "--grace", "1h")  # a schedule would say it every time
    assert (piped.code, piped.err) == (0, "")


def test_by_hand_on_a_terminal_it_asks_for_the_new_token_without_echo(cli, put, api):
    uri = put()
    terminal = cli.on_terminal("rotate", uri, "--issuer", "manual", "--force")
    terminal.expect("New token (not shown): ")
    fresh = api.admin_token  # a token that the API takes
    terminal.type(f"{fresh}\n")
    assert terminal.end() == 0, terminal.shown
    assert fresh not in terminal.shown
    assert cli("get", uri, "--reveal").out == f"{fresh}\n"


def test_an_emergency_on_a_terminal_asks_and_takes_no_for_an_answer(cli, rotated):
    before = current(cli, rotated)["id"]
    terminal = cli.on_terminal("revoke", rotated)
    terminal.expect(f"Revoke {before} ")
    terminal.type("\n")
    assert terminal.end() == 2
    assert "not confirmed, nothing was changed" in terminal.shown
    assert current(cli, rotated)["id"] == before
    assert sends(cli, rotated)


def test_an_emergency_on_a_terminal_goes_ahead_with_a_yes(cli, rotated):
    before = current(cli, rotated)["id"]
    terminal = cli.on_terminal("revoke", rotated)
    terminal.expect("[y/N] ")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert f"{before} is dead" in terminal.shown
    assert current(cli, rotated)["id"] != before
    assert sends(cli, rotated)


def test_the_leaked_token_is_dead_everywhere(cli, rotated):
    leaked = cli("get", rotated, "--reveal").out.strip()
    assert cli("revoke", rotated, "--yes").code == 0
    done = cli("send", "env:LEAKED", "--to", "+12025550123", "--text", "hi", LEAKED=leaked)
    assert (done.code, "401" in done.err) == (1, True)


def test_repeated_by_id_it_does_not_kill_the_good_token(cli, rotated):
    leaked = current(cli, rotated)["id"]
    assert cli("revoke", rotated, "--id", leaked, "--yes").code == 0
    good = current(cli, rotated)["id"]
    assert good != leaked
    assert cli("revoke", rotated, "--id", leaked, "--yes").code == 0
    assert current(cli, rotated)["id"] == good
    assert sends(cli, rotated)


def test_by_id_without_replacing_it_needs_the_issuer_only(cli, rotated):
    leaked = current(cli, rotated)["id"]
    (cli.folder / "token.sealed").write_text("unreadable now")
    done = cli("revoke", rotated, "--id", leaked, "--no-replace", "--yes")
    assert done.code == 0
    assert "it accepts any id" in done.out


def test_where_the_store_cannot_be_read_it_says_still_alive_and_what_to_do(cli, rotated):
    (cli.folder / "token.sealed").write_text("unreadable now")
    done = cli("revoke", rotated, "--yes")
    assert done.code == 1
    assert done.err.startswith("STILL ALIVE: CURRENT")
    assert "--id ID --no-replace" in done.err


def test_an_issuer_that_does_not_revoke_means_still_alive(cli, rotated, api):
    leaked = current(cli, rotated)["id"]
    fault(api, route="DELETE /v1/tokens/{id}", status=500, count=5)
    done = cli("revoke", rotated, "--yes", "--json")
    assert done.code == 1
    assert item(done)["state"] == "failed"
    assert f"STILL ALIVE: {leaked}" in done.err


def test_what_failed_to_die_is_named_with_the_way_to_repeat_it(cli, rotated, api):
    assert cli("rotate", rotated, "--force").code == 0
    held = item(cli("status", rotated, "--json"))["stages"]
    fault(api, route="DELETE /v1/tokens/{id}", status=500, count=9)
    done = cli("revoke", rotated, "--yes")
    urllib.request.urlopen(
        urllib.request.Request(f"{api.base_url}/_emulator/faults", method="DELETE")
    ).close()
    assert done.code == 1
    for stage in ("current", "previous"):
        assert f"STILL ALIVE: {held[stage]['id']}\n" in done.err
    assert (
        f"hint: repeat it by the id: cmzon-secrets revoke --id {held['current']['id']}" in done.err
    )


@pytest.mark.parametrize("words", [[], ["--no-replace"]])
def test_the_admin_token_that_does_it_is_not_killed_by_its_id(cli, rotated, api, words):
    """One mistaken order, and nothing could be issued or revoked any more, for any account."""
    admin = own_id(api)
    done = cli("revoke", rotated, "--id", admin, *words, "--yes")
    assert done.code == 1
    assert f"STILL ALIVE: {admin}\n" in done.err
    assert f"{admin} — that is the admin token itself" in done.err
    assert "put a new admin token in its place first" in done.err
    assert own_id(api) == admin
    assert cli("rotate", rotated, "--force").code == 0


def test_a_place_of_the_admins_own_can_kill_it_by_its_id(cli, sealed, api):
    value = issued_admin(api)
    assert cli("put", sealed, stdin=value).code == 0
    scope = ["--admin", sealed, "--scope", "tokens:manage"]
    assert cli("rotate", sealed, *scope).code == 0
    leaked = own_id(api, value)
    assert cli("revoke", sealed, "--id", leaked, *scope, "--yes").code == 0
    fresh = cli("get", sealed, "--reveal").out.strip()
    assert own_id(api, fresh) != leaked
    with pytest.raises(urllib.error.HTTPError, match="401") as dead:
        own_id(api, value)
    dead.value.close()


def elsewhere(api):
    """A token that is refused with 403 from here."""
    wanted = {"name": "x", "scopes": ["messages:send"], "allowed_ips": ["203.0.113.9"]}
    return as_bearer(api, "/v1/tokens", api.admin_token, wanted)


def test_out_of_a_pending_that_is_refused_from_here_leads_what_the_reason_names(cli, rotated, api):
    made = elsewhere(api)
    place = rotated.replace("token.", f"{cli.folder}/token.")
    with open_store(place) as store:
        store.stage(Token(made["token"], id=made["id"], allowed_ips=("203.0.113.9",)))
    done = cli("rotate", rotated, "--allowed-ip", "203.0.113.9")
    assert done.code == 3
    assert "403" in done.out
    assert "to give it up: cmzon-secrets revoke --stage pending" in done.out
    assert cli("revoke", rotated, "--stage", "pending", "--yes").code == 0
    assert cli("rotate", rotated, "--force").code == 0


def test_of_a_pasted_token_that_is_refused_from_here_the_dashboard_is_named(cli, sealed, api):
    """By its fingerprint nobody can revoke it: to repeat the command would never end."""
    assert cli("put", sealed, stdin=elsewhere(api)["token"]).code == 0
    for stage in ("current", "previous"):
        done = cli("revoke", sealed, "--stage", stage, "--yes")
        assert done.code == 1
        hint = done.err.partition("\nhint: ")[2]
        assert "revoke it in the dashboard; or, from an address that it allows" in hint


def test_a_token_is_not_taken_for_its_id(cli, put, api):
    uri = put("plain-value-without-any-prefix")
    done = cli("revoke", uri, "--id", "plain-value-without-any-prefix", "--yes")
    assert done.code == 2
    assert "that is the token, not its id" in done.err
    assert "plain-value" not in done.out + done.err


def test_an_empty_id_is_not_taken_for_the_current_token(cli, rotated):
    assert cli("revoke", rotated, "--id", "", "--yes").code == 2
    assert sends(cli, rotated)


@pytest.mark.parametrize(
    "words",
    [
        ["--stage", "previous", "--id", "x"],
        ["--all", "--id", "x"],
        ["--all", "--stage", "current"],
    ],
    ids=" ".join,
)
def test_of_stage_id_and_all_only_one_can_be_meant(cli, rotated, words):
    assert cli("revoke", rotated, *words, "--yes").code == 2
    assert sends(cli, rotated)


def test_an_emergency_for_all_names_each_id_before_it_asks_for_a_yes(cli, rotated):
    assert cli("rotate", rotated, "--force").code == 0
    held = item(cli("status", rotated, "--json"))["stages"]
    terminal = cli.on_terminal("revoke", rotated, "--all")
    terminal.expect("[y/N] ")
    assert held["current"]["id"] in terminal.shown
    assert held["previous"]["id"] in terminal.shown
    assert "Revoke these 2 tokens of " in terminal.shown
    terminal.type("n\n")
    assert terminal.end() == 2
    assert item(cli("status", rotated, "--json"))["stages"] == held


def test_an_emergency_for_all_leaves_one_new_token(cli, rotated):
    assert cli("rotate", rotated, "--force").code == 0
    held = item(cli("status", rotated, "--json"))["stages"]
    done = cli("revoke", rotated, "--all", "--yes", "--json", "--events", "-")
    assert done.code == 0, done.err
    revoked = {a["token_id"] for a in item(done)["actions"] if a["kind"] == "revoke"}
    assert revoked == {held["current"]["id"], held["previous"]["id"]}
    assert '"event": "emergency_started"' in done.err
    now = item(cli("status", rotated, "--json"))["stages"]
    assert (now["previous"], now["pending"]) == (None, None)
    assert now["current"]["id"] not in revoked
    assert sends(cli, rotated)


def test_an_emergency_for_all_without_a_new_token_leaves_none_alive(cli, rotated):
    done = cli("revoke", rotated, "--all", "--no-replace", "--yes")
    assert done.code == 3, "the dead one is still CURRENT"
    assert "is dead, and still CURRENT" in done.out
    assert not sends(cli, rotated)


def test_an_emergency_for_all_says_which_may_be_alive(cli, rotated, api):
    assert cli("rotate", rotated, "--force").code == 0
    held = item(cli("status", rotated, "--json"))["stages"]
    fault(api, route="DELETE /v1/tokens/{id}", status=500, count=50)
    done = cli("revoke", rotated, "--all", "--yes")
    urllib.request.urlopen(
        urllib.request.Request(f"{api.base_url}/_emulator/faults", method="DELETE")
    ).close()
    assert done.code == 1
    for stage in ("current", "previous"):
        assert f"STILL ALIVE: {held[stage]['id']}\n" in done.err
    assert cli("revoke", rotated, "--all", "--yes").code == 0


def test_where_the_store_cannot_be_read_all_are_still_alive(cli, rotated):
    (cli.folder / "token.sealed").write_text("unreadable now")
    done = cli("revoke", rotated, "--all", "--yes")
    assert done.code == 1
    assert done.err.startswith("STILL ALIVE: every token of this account")


def test_send_as_json_has_what_the_api_said(cli, rotated):
    sent = item(cli("send", rotated, "--to", "+12025550123", "--text", "hi", "--json"))
    assert set(sent) == {"account", "id", "status", "to", "request_id", "attempts"}
    assert (sent["status"], sent["to"], sent["attempts"]) == ("accepted", "+12025550123", 1)


def test_a_message_that_may_have_been_sent_is_told_so(cli, rotated, api):
    fault(api, route="POST /v1/messages", after_accept=True, reset=True)
    words = ["send", rotated, "--to", "+12025550123", "--text", "hi", "--json"]
    done = cli(*words)
    assert done.code == 1
    assert "the message may have been sent: check before sending it again" in done.err
    assert json.loads(done.out)["error"]["may_have_been_sent"] is True
    never = cli(*words, CMZON_BASE_URL="http://127.0.0.1:9")
    assert "may have been sent" not in never.err
    assert json.loads(never.out)["error"]["may_have_been_sent"] is False


def test_an_error_of_the_api_carries_what_the_api_said(cli, rotated, api):
    fault(api, route="POST /v1/messages", status=429, retry_after=90)
    done = cli("send", rotated, "--to", "+12025550123", "--text", "hi", "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["status"], error["retry_after"]) == (1, 429, 90)
    assert error["request_id"]
    assert "hint: the API asks to wait 90s" in done.err


@pytest.mark.parametrize("to", ["12025550123", "+1", "+1202555x", "cmz_token"])
def test_a_number_that_is_none_is_refused_before_anything_is_sent(cli, rotated, api, to):
    before = api.stats()["messages"]
    assert cli("send", rotated, "--to", to, "--text", "hi").code == 2
    assert api.stats()["messages"] == before


def test_an_api_with_a_ca_of_its_own_is_trusted_where_told(cli, sealed):
    from cmzon_secrets.emulator import Emulator

    with Emulator(tls=True) as tls:
        cli.environment |= {
            "CMZON_BASE_URL": tls.base_url,
            "CMZON_ADMIN_URI": "env:ADMIN",
            "ADMIN": tls.admin_token,
        }
        ca = ["--ca", tls.ca]
        refused = cli("rotate", sealed)
        assert refused.code == 1
        assert "--ca FILE" in refused.err
        assert cli("rotate", sealed, *ca).code == 0
        assert cli("send", sealed, *ca, "--to", "+12025550123", "--text", "hi").code == 0
        assert cli("revoke", sealed, *ca, "--yes").code == 0
