"""A planted token appears nowhere but where it is asked for."""

from __future__ import annotations

import pytest

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
    ["rotate", "URI", "--force"],
    ["rotate", "URI", "--grace", TOKEN],
    ["rotate", "URI", "--issuer", "manual", "--force"],
    ["revoke", "URI", "--yes", "--no-replace"],
    ["revoke", "URI", "--yes", "--issuer", "manual", "--no-replace"],
    ["copy", "env:PLANTED", "URI", "--yes"],
    ["rekey", "URI", "--key", TOKEN],
    ["run", "URI", "--", "true"],
    ["run", "URI", TOKEN],
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
