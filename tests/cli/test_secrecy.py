"""A planted token appears nowhere but where it is asked for."""

from __future__ import annotations

import json

import pytest

from servers.told_server import always, answer, told

TOKEN = "cmz_" + "Kanarienvogel" * 3

COMMANDS = [
    ["get", "URI"],
    ["get", "URI", "--json"],
    ["status", "URI"],
    ["status", "URI", "--json"],
    ["put", "URI", "--from-env", "PLANTED"],
    ["put", "URI", "--from-env", "PLANTED", "--json"],
    ["put", TOKEN],
    ["get", TOKEN],
    ["get", f"file:x?token={TOKEN}"],
    [TOKEN],
    ["send", "URI", "--to", TOKEN, "--text", "hi"],
    ["send", "URI", "--to", "+12025550123", "--text", "hi"],
    ["send", "URI", "--to", "+12025550123", "--text", "hi", f"--token={TOKEN}"],
    ["send", "URI", "--from-file", TOKEN],
    ["send", "URI", "--from-file", f"{TOKEN}.csv"],
    ["send", "URI", "--from-file", "-", "--format", "csv", "--outbox", TOKEN],
    ["send", "URI", "--from-file", "-", "--format", "jsonl", "--outbox", TOKEN],
    ["send", "URI", "--outbox", TOKEN, "--json"],
    ["outbox", "status", TOKEN, "--json"],
    ["outbox", TOKEN],
    ["rotate", "URI", "--force"],
    ["rotate", "URI", "--grace", TOKEN],
    ["rotate", "URI", "--issuer", "manual", "--force"],
    ["revoke", "URI", "--yes", "--no-replace"],
    ["revoke", "URI", "--yes", "--issuer", "manual", "--no-replace"],
    ["copy", "env:PLANTED", "URI", "--yes"],
    ["rekey", "URI", "--key", TOKEN],
    ["run", "URI", "--", "true"],
    ["run", "URI", TOKEN],
    ["run", "URI", "--", TOKEN],
    ["get", f"env:{TOKEN}"],
    ["get", "--account", TOKEN],
    ["status", "URI", f"env:{TOKEN}"],
    ["put", "URI", "--from-file", TOKEN],
    ["put", "URI", "--from-env", TOKEN],
    ["put", "URI", "--token", TOKEN],
    ["rotate", "URI", "--issuer", TOKEN],
    ["rotate", "URI", "--admin", f"env:{TOKEN}", "--force"],
    ["rotate", "URI", "--name", TOKEN, "--force"],
    ["rotate", "URI", "--scope", TOKEN, "--force"],
    ["rotate", "URI", "--allowed-ip", TOKEN],
    ["rotate", "URI", "--base-url", TOKEN],
    ["rotate", "URI", "--base-url", f"http://{TOKEN}"],
    ["rotate", "URI", "--ca", TOKEN],
    ["revoke", "URI", "--id", TOKEN, "--yes"],
    ["revoke", "URI", "--id", "Unheld" + "Kanarienvogel" * 5, "--yes"],
    ["revoke", "URI", "--stage", TOKEN],
    ["emulator", "--host", TOKEN],
    ["keygen", TOKEN],
    ["keygen", f"missing-folder/{TOKEN}"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words).replace(TOKEN, "T"))
def test_no_command_shows_a_token(cli, put, words):
    uri = put()
    done = cli(
        *(uri if word == "URI" else word for word in words),
        stdin=TOKEN,
        PLANTED=TOKEN,
        CMZON_BASE_URL="http://127.0.0.1:9",
        CMZON_ADMIN_URI="env:PLANTED",
        CMZON_SECRETS_DEBUG="1",
        PYTHONFAULTHANDLER="1",
    )
    assert "Kanarienvogel" not in done.out + done.err
    for path in cli.folder.iterdir():
        assert b"Kanarienvogel" not in path.read_bytes(), path


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["get", "--account", "a"]])
@pytest.mark.parametrize(
    "token", [TOKEN, f"env:{TOKEN}", f"{TOKEN}:x", f"file:t?key={TOKEN}", f"file:t?{TOKEN}=x"]
)
def test_no_command_shows_a_token_from_the_configuration_file(cli, words, token):
    (cli.folder / "cmzon-secrets.toml").write_text(f'[accounts.a]\ntoken = "{token}"\n')
    done = cli(*words)
    assert done.code == 1
    assert "Kanarienvogel" not in done.out + done.err


def test_a_token_where_the_configuration_file_is_named_is_not_shown(cli):
    done = cli("status", CMZON_SECRETS_CONFIG=TOKEN)
    assert done.code == 1
    assert "Kanarienvogel" not in done.out + done.err


DRAWING = "\x1b]0;owned\x07\n\x9b2J\u202e" + TOKEN
"""What moves a cursor, renames a window, or turns text around; and an echo."""
ACCEPTED = {"id": DRAWING * 20, "status": DRAWING, "to": DRAWING}
REFUSED = {"error": {"message": DRAWING, "code": DRAWING, "details": DRAWING}}


@pytest.mark.parametrize(("status", "body"), [(202, ACCEPTED), (422, REFUSED), (500, REFUSED)])
def test_nothing_that_an_api_says_draws_on_the_terminal(cli, status, body):
    (cli.folder / "m.csv").write_text("to,text\n+12025550123,hi\n")
    one = ["send", "env:T", "--to", "+12025550123", "--text", "hi"]
    many = ["send", "env:T", "--from-file", "m.csv"]
    look = ["outbox", "status", "m.csv.outbox", "--list"]
    said = answer(status, json.dumps(body).encode(), X_Request_Id="\x9b2J" + TOKEN)
    with told(always(said)) as server:
        cli.environment |= {"T": TOKEN, "CMZON_BASE_URL": server.url}
        words = [one, [*one, "--json"], *([many, look, [*look, "--json"]] if status < 500 else [])]
        ended = [cli(*command) for command in words]
    shown = "".join(done.out + done.err for done in ended)
    assert "owned" in shown
    assert not [c for c in shown if not (c.isprintable() or c == "\n")]
    assert TOKEN not in shown
    assert max(map(len, shown.splitlines())) < 1000
