"""The admin token lives in a place like any other, and rotates there: never into one that only sends."""

from __future__ import annotations

import json
import urllib.request

import pytest

ADMIN = "file:admin.sealed?key=keyfile:token.key"
MANAGING = ("--scope", "tokens:manage")


def issued_admin(api):
    """One of its own for each test: it is replaced and revoked."""
    body = json.dumps({"name": "admin", "scopes": ["tokens:manage"]}).encode()
    headers = {
        "Authorization": f"Bearer {api.admin_token}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(f"{api.base_url}/v1/tokens", body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["token"]


@pytest.fixture
def admin(cli, sealed, api):
    """The URI of the admin token's place, which the environment names as well."""
    assert cli("put", ADMIN, stdin=issued_admin(api)).code == 0
    cli.environment["CMZON_ADMIN_URI"] = ADMIN
    return ADMIN


def value(cli):
    return cli("get", ADMIN, "--reveal").out


def still_manages(cli, sealed):
    return cli("rotate", sealed, "--force").code == 0


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--scope", "messages:send"]], ids=" ".join)
def test_it_is_not_replaced_by_one_that_cannot_issue(cli, sealed, admin, words):
    before = value(cli)
    done = cli("rotate", admin, "--force", *words)
    assert done.code == 1
    assert "it would replace the admin token itself" in done.err
    assert "its scopes (messages:send) lack tokens:manage" in done.err
    assert "hint: --scope tokens:manage, or scopes = " in done.err
    assert value(cli) == before
    assert still_manages(cli, sealed)


def test_by_another_name_it_is_the_admin_token_all_the_same(cli, sealed, admin):
    (cli.folder / "link.sealed").symlink_to("admin.sealed")
    done = cli("rotate", "file:link.sealed?key=keyfile:token.key", "--force")
    assert (done.code, "lack tokens:manage" in done.err) == (1, True)
    assert still_manages(cli, sealed)


def test_with_the_scope_it_rotates_by_itself(cli, sealed, admin):
    before = value(cli)
    assert cli("rotate", admin, "--force", *MANAGING).code == 0
    assert value(cli) != before
    assert still_manages(cli, sealed)


def test_in_a_fleet_its_account_fails_and_the_others_rotate(cli, sealed, admin):
    written = f"""
        admin = "{ADMIN}"
        [accounts.acme]
        token = "{sealed}"
        [accounts.root]
        token = "{ADMIN}"
        """
    file = cli.folder / "cmzon-secrets.toml"
    file.write_text(written)
    before = value(cli)
    done = cli("rotate", "--all", "--force")
    assert done.code == 1
    assert "1 done, 1 failed" in done.out
    assert "lack tokens:manage" in done.out + done.err
    assert value(cli) == before
    file.write_text(written + 'scopes = ["tokens:manage"]\n')
    assert cli("rotate", "--all", "--force").code == 0
    assert value(cli) != before
    assert still_manages(cli, sealed)


def test_an_emergency_does_not_replace_it_by_one_that_cannot_revoke(cli, sealed, admin):
    before = value(cli)
    done = cli("revoke", admin, "--yes")
    assert done.code == 1
    assert "STILL ALIVE" in done.err
    assert "hint: --scope tokens:manage, or scopes = " in done.err
    assert value(cli) == before
    assert cli("revoke", admin, *MANAGING, "--yes").code == 0
    assert value(cli) != before
    assert still_manages(cli, sealed)


def test_by_hand_a_person_chooses_what_it_may(cli, admin, api):
    fresh = issued_admin(api)
    done = cli("rotate", admin, "--issuer", "manual", "--force", stdin=f"{fresh}\n")
    assert done.code == 0, done.err
    assert value(cli) == f"{fresh}\n"
