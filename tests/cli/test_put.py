"""``put``: where the token comes from."""

from __future__ import annotations

import json
import os

import pytest

TOKEN = "cmz_" + "Kanarienvogel" * 3


def revealed(cli, uri):
    return cli("get", uri, "--reveal").out


def test_on_a_terminal_it_asks_without_echo(cli, sealed):
    terminal = cli.on_terminal("put", sealed)
    terminal.expect("Token (not shown): ")
    terminal.type(TOKEN + "\n")
    assert terminal.end() == 0
    assert "stored" in terminal.shown
    assert TOKEN not in terminal.shown
    assert revealed(cli, sealed) == TOKEN + "\n"


def test_a_wrong_key_is_told_before_anybody_pastes_a_token(cli, put):
    uri = put()
    cli("keygen", "other.key")
    terminal = cli.on_terminal("put", uri.replace("token.key", "other.key"))
    assert terminal.end() == 1
    assert "does not open it" in terminal.shown
    assert "Token" not in terminal.shown


def test_an_empty_answer_at_the_prompt_stores_nothing(cli, sealed):
    terminal = cli.on_terminal("put", sealed)
    terminal.expect("Token (not shown): ")
    terminal.type("\n")
    assert terminal.end() == 1
    assert "token — nothing was given" in terminal.shown
    assert cli("get", sealed).code == 1


@pytest.mark.parametrize("given", [TOKEN, f"{TOKEN}\n", f"{TOKEN}\r\n"])
def test_one_line_break_at_the_end_is_dropped(cli, sealed, given):
    assert cli("put", sealed, stdin=given).code == 0
    assert revealed(cli, sealed) == TOKEN + "\n"


@pytest.mark.parametrize(
    "given",
    [f"{TOKEN}\n\n", f"{TOKEN}\nmore\n", f" {TOKEN}", f"{TOKEN} ", f"{TOKEN[:5]} {TOKEN[5:]}",
     f"{TOKEN}\r", f"{TOKEN}ü", b"\xff" + TOKEN.encode(), f"{TOKEN}\0", "A" * 5000],
)  # fmt: skip
def test_whatever_else_is_not_a_token_is_refused_and_not_shown(cli, sealed, given):
    done = cli("put", sealed, "--json", stdin=given)
    assert done.code == 1
    assert "error: token — " in done.err
    assert '"type": "InvalidToken"' in done.out
    assert TOKEN[5:] not in done.out + done.err
    assert cli("get", sealed).code == 1


@pytest.mark.parametrize("given", ["", "\n", "  \n"])
def test_nothing_is_not_a_token_either(cli, sealed, given):
    done = cli("put", sealed, stdin=given)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: token — nothing was given\nhint: ")


def test_a_pipe_that_stays_open_is_read_to_the_end_of_the_line_only(cli, sealed):
    read_end, write_end = os.pipe()
    os.write(write_end, f"{TOKEN}\n".encode())
    process = cli.start("put", sealed, stdin=read_end)
    os.close(read_end)
    out, _ = process.communicate(timeout=60)
    os.close(write_end)
    assert process.returncode == 0, out


def test_it_can_come_from_a_file_or_a_variable(cli, sealed):
    (cli.folder / "pasted").write_text(TOKEN + "\n")
    assert cli("put", sealed, "--from-file", "pasted").code == 0
    assert revealed(cli, sealed) == TOKEN + "\n"
    assert cli("put", sealed, "--from-env", "FRESH", FRESH="cmz_fresh").code == 0
    assert revealed(cli, sealed) == "cmz_fresh\n"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--from-file", "none"], 1, "none — no such file"),
        (["--from-file", "."], 1, "is a directory"),
        (["--from-env", "NOT_SET"], 1, "no environment variable NOT_SET is set"),
        (["--from-env", TOKEN], 1, "not shown"),
        (["--from-env", "A", "--from-file", "b"], 2, "cannot go together"),
    ],
)
def test_where_nothing_can_be_read_it_says_so(cli, sealed, options, code, words):
    done = cli("put", sealed, *options)
    assert done.code == code
    assert words in done.err
    assert TOKEN not in done.err


def test_create_is_accepted_for_a_sealed_file_which_is_made_anyway(cli, sealed):
    assert cli("put", sealed, "--create", stdin=TOKEN).code == 0


def test_json_tells_what_was_replaced(cli, put):
    uri = put()
    done = cli("put", uri, "--json", stdin="cmz_second")
    (item,) = json.loads(done.out)["items"]
    assert item["changed"] is True
    assert item["replaced"].startswith("sha256:")
    assert item["forgotten"] == []
    assert done.err == ""
