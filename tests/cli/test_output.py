"""What is printed where: data, notes, colours, JSON, help, and how long that takes."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmzon_secrets.cli import app

TOKEN = "cmz_" + "Kanarienvogel" * 3
ESCAPE = "\x1b["


def test_help_lists_every_command_and_imports_none(cli):
    done = cli("--help")
    assert done.code == 0
    assert all(f"  {name}" in done.out for name in app.COMMANDS)
    loaded = "import sys, cmzon_secrets.cli as c; c.main(['--help']); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded],
        capture_output=True,
        text=True,
        env=cli.environment,
        check=False,
    ).stdout.split()
    heavy = {"cryptography", "httpx2", "ssl", "asyncio", "starlette", "tomllib"}
    assert not heavy & set(modules)
    assert not {f"cmzon_secrets.cli.{name}" for name in app.COMMANDS} & set(modules)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_line_in_the_list_is_the_first_of_the_commands_own_help(name):
    command = importlib.import_module(f"cmzon_secrets.cli.{name}").command
    assert command.help.splitlines()[0] == app.COMMANDS[name]


def test_each_module_of_a_command_is_in_the_list():
    folder = Path(app.__file__).parent
    with_command = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "command"
    }
    assert with_command == set(app.COMMANDS)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_no_option_takes_a_secret(name):
    command = importlib.import_module(f"cmzon_secrets.cli.{name}").command
    options = {option for parameter in command.params for option in parameter.opts}
    assert not {o for o in options if any(w in o for w in ("token", "secret", "pass", "value"))}


def test_help_of_a_command_does_not_need_anything(cli):
    done = cli("rotate", "-h")
    assert done.code == 0
    assert "--rotate-every" in done.out


def test_the_version_is_told(cli):
    from cmzon_secrets import __version__

    assert cli("--version").out == f"cmzon-secrets, version {__version__}\n"


def test_without_a_command_it_shows_the_help_as_an_error(cli):
    done = cli()
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_piped_output_is_plain(cli, put):
    done = cli("get", put())
    assert ESCAPE not in done.out
    assert ESCAPE not in cli("get", "file:none?key=keyfile:token.key").err


def test_a_terminal_gets_colours_unless_told_otherwise(cli, put):
    uri = put()
    coloured = cli.on_terminal("status", uri)
    assert coloured.end() == 0
    assert f"{ESCAPE}32m" in coloured.shown
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = cli.on_terminal("status", uri, **variables)
        assert plain.end() == 0
        assert ESCAPE not in plain.shown


def test_a_terminal_without_unicode_gets_question_marks_not_an_error(cli, put):
    done = cli("get", put(), PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert "???????? sha256:" in done.out


def test_a_reader_that_goes_away_is_not_worth_a_word(cli, put):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        cli.words("get", put()),
        check=False,
        stdout=write_end,
        stderr=subprocess.PIPE,
        cwd=cli.folder,
        env=cli.environment,
    )
    os.close(write_end)
    assert done.stderr == b""


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("command", ["get", "status", "rotate", "get --json", "frobnicate"])
def test_without_standard_streams_it_does_its_work_and_ends(cli, put, command, closed):
    name, *options = command.split()
    words = cli.words(name, put(), *options)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=cli.folder,
        env=cli.environment,
    )
    assert done.returncode == {"rotate": 1, "frobnicate": 2}.get(command, 0)
    assert "Traceback" not in done.stderr
    assert "internal" not in done.stderr


def test_reports_fit_into_eighty_columns(cli, sealed, api):
    shown = ""
    for words in (["rotate"], ["rotate", "--force", "--expires-in", "90d"], ["status"]):
        terminal = cli.on_terminal(words[0], sealed, *words[1:], NO_COLOR="1")
        assert terminal.end() == 0
        shown += terminal.shown
    assert "PREVIOUS" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_line_that_is_too_long_for_the_terminal_breaks_between_words(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    assert cli("rotate", sealed, "--force").code == 0
    terminal = cli.on_terminal("status", sealed, COLUMNS="40", NO_COLOR="1")
    assert terminal.end() == 0
    verdict = terminal.shown[terminal.shown.index("done — ") :]
    piped = cli("status", sealed).out
    assert len(verdict.splitlines()) > 1
    assert " ".join(verdict.split()).partition(" next due")[0] in " ".join(piped.split())


def test_json_is_one_versioned_document(cli, put):
    uri = put()
    for words in (["get", uri], ["status", uri], ["put", uri, "--from-env", "T"], ["keygen", "k"]):
        done = cli(*words, "--json", T=TOKEN)
        document = json.loads(done.out)
        assert (document["schema"], len(document["items"])) == (1, 1)


def test_status_as_json_has_the_stages_and_the_fields_of_a_report(cli, put):
    uri = put()
    (item,) = json.loads(cli("status", uri, "--json").out)["items"]
    assert set(item) == {
        "account", "uri", "state", "actions", "reason", "next_due", "error", "stages", "answered",
        "links",
    }  # fmt: skip
    assert (item["answered"], item["links"]) == (uri, [])
    assert set(item["stages"]) == {"current", "pending", "previous", "promoted_at"}
    assert set(item["stages"]["current"]) == {
        "id", "fingerprint", "scopes", "issued_at", "expires_at", "allowed_ips",
    }  # fmt: skip
    assert item["next_due"].endswith("Z")


def test_get_as_json_has_the_value_only_with_reveal(cli, put):
    uri = put()
    assert "token" not in json.loads(cli("get", uri, "--json").out)["items"][0]
    assert json.loads(cli("get", uri, "--json", "--reveal").out)["items"][0]["token"] == TOKEN


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["get", "file:none?key=keyfile:none", "--json"], 1, "TokenNotFound"),
        (["get", "nowhere:x", "--json"], 2, "InvalidURI"),
        (["get", "--json", "--frobnicate"], 2, "UsageError"),
        (["put", "env:T", "--json"], 1, "ReadOnlyProvider"),
    ],
)
def test_with_json_an_error_is_on_standard_output_too(cli, words, code, kind):
    done = cli(*words)
    document = json.loads(done.out)
    assert (done.code, document["schema"], document["error"]["type"]) == (code, 1, kind)
    assert set(document["error"]) == {"type", "message", "hint"}
    assert done.err.startswith(f"error: {document['error']['message']}\n")


def test_status_of_several_places_tells_of_each_whatever_happens(cli, put):
    uri = put()
    broken = "file:broken.sealed?key=keyfile:token.key"
    (cli.folder / "broken.sealed").write_text("nonsense")
    (cli.folder / "broken.sealed").chmod(0o600)
    done = cli("status", broken, uri, "env:T", "--json", T=TOKEN)
    states = [item["state"] for item in json.loads(done.out)["items"]]
    assert (done.code, states) == (1, ["failed", "done", "done"])
    assert json.loads(done.out)["items"][0]["error"]["type"] == "SealBroken"


def test_status_is_3_where_a_person_is_needed(cli, put):
    uri = put()
    assert cli("status", uri).code == 0
    overdue = cli("status", uri, "--rotate-every", "0.001")
    assert overdue.code == 3
    assert "overdue" in overdue.out


def test_an_internal_error_is_one_line_without_its_text(cli):
    program = (
        "import sys, cmzon_secrets.cli.output as o, cmzon_secrets.cli.get as g\n"
        "def fail(*a): value = 'cmz_Kanarienvogel'; raise ZeroDivisionError(value)\n"
        "g.find_target = fail\n"
        "from cmzon_secrets.cli import main; sys.exit(main(['get', 'env:T']))\n"
    )
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            env={**cli.environment, "CMZON_SECRETS_DEBUG": debug},
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: internal — an unexpected ZeroDivisionError\nhint: ")
        assert "Kanarienvogel" not in done.stderr.replace("raise ZeroDivisionError(value)", "")
        assert ("line 2, in fail" in done.stderr) == bool(debug)


def test_a_missing_extra_is_told_with_the_package_and_how_to_get_it(cli):
    program = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from cmzon_secrets.cli import main; sys.exit(main(['emulator']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=cli.environment,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: emulator — it needs a package that is not installed: uvicorn\n"
        'hint: pip install "cmzon-secrets[emulator]"\n'
    )
