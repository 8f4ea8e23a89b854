"""What can be wrong with files, keys and networks: one clear line, the exit code, nothing lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request

import pytest

TOKEN = "cmz_" + "Kanarienvogel" * 3


def assert_one_line(done, code, *words):
    assert done.code == code, done
    error, *hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert len(hint) <= 1
    assert all(line.startswith("hint: ") for line in hint)
    for word in words:
        assert word in done.err
    assert TOKEN not in done.err + done.out


def test_no_file(cli, sealed):
    assert_one_line(cli("get", sealed), 1, "no token is stored there", "cmzon-secrets put")


def test_no_key_file(cli):
    done = cli("put", "file:t.sealed?key=keyfile:none.key", stdin=TOKEN)
    assert_one_line(done, 1, "key=", "no such key file", "cmzon-secrets keygen")


def test_a_wrong_passphrase(cli):
    uri = "file:t.sealed?key=passphrase:"
    assert cli("put", uri, stdin=TOKEN, CMZON_SECRETS_PASSPHRASE="correct").code == 0
    assert_one_line(cli("get", uri, CMZON_SECRETS_PASSPHRASE="wrong"), 1, "wrong")


def test_a_passphrase_and_nobody_to_ask(cli):
    done = cli("put", "file:t.sealed?key=passphrase:", stdin=TOKEN)
    assert_one_line(done, 1, "no terminal to ask", "CMZON_SECRETS_PASSPHRASE")


def test_a_corrupted_file(cli, put):
    uri = put()
    path = cli.folder / "token.sealed"
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    for words in (["get", uri], ["put", uri], ["rekey", uri, "--key", "keyfile:token.key"]):
        assert_one_line(cli(*words, stdin="cmz_new"), 1, "altered")
    assert path.read_bytes() == altered


def test_a_file_that_others_may_read(cli, put):
    uri = put()
    (cli.folder / "token.sealed").chmod(0o644)
    assert_one_line(cli("get", uri), 1, "open to other users", "chmod 600")


def test_a_folder_that_is_not_there(cli, sealed):
    done = cli("put", "file:none/t.sealed?key=keyfile:token.key", stdin=TOKEN)
    assert_one_line(done, 1, "no such file or directory", "mkdir -p")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(cli, put):
    uri = put()
    before = (cli.folder / "token.sealed").read_bytes()
    cli.folder.chmod(0o500)
    done = cli("put", uri, stdin="cmz_new")
    cli.folder.chmod(0o700)
    assert_one_line(done, 1, "permission denied")
    assert (cli.folder / "token.sealed").read_bytes() == before


def test_a_folder_that_takes_no_files_at_all(cli, sealed):
    done = cli("put", "file:/proc/t.sealed?key=keyfile:token.key", stdin=TOKEN)
    assert_one_line(done, 1, "/proc/t.sealed")


def test_a_full_disk_leaves_the_old_token(cli, put):
    uri = put()
    before = (cli.folder / "token.sealed").read_bytes()

    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *cli.words("put", uri, "--from-env", "NEW")],
        check=False,
        capture_output=True,
        text=True,
        cwd=cli.folder,
        env={**cli.environment, "NEW": "cmz_new"},
    )
    assert done.returncode == 1
    assert "make room on the disk" in done.stderr
    assert (cli.folder / "token.sealed").read_bytes() == before
    assert cli("get", uri, "--reveal").out == TOKEN + "\n"


def test_a_full_standard_output_is_not_a_success(cli, put):
    uri = put()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            cli.words("get", uri),
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cli.folder,
            env=cli.environment,
        )
    assert done.returncode == 1
    assert done.stderr == "error: the operating system refused — no space left on device\n"


def test_a_port_in_use(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("emulator", "--port", str(port))
    assert_one_line(done, 1, f"port {port}", "in use by")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])
def test_an_address_that_others_can_reach(cli, host):
    assert_one_line(cli("emulator", "--host", host), 2, "loopback")


@pytest.mark.parametrize("command", ["send", "rotate", "revoke"])
def test_plain_http_to_a_public_host_is_refused_before_a_byte_is_sent(cli, put, command):
    options = {"send": ["--to", "+12025550123", "--text", "hi"], "revoke": ["--yes"]}
    done = cli(
        command,
        put(),
        *options.get(command, []),
        CMZON_BASE_URL="http://api.cmzon.com",
        CMZON_ADMIN_URI="env:ADMIN",
        ADMIN="cmz_admin",
    )
    assert_one_line(done, 1, "never sent over plain http")


def test_a_revoked_token(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    assert cli("revoke", sealed, "--no-replace", "--yes").code == 3
    done = cli("send", sealed, "--to", "+12025550123", "--text", "hi")
    assert_one_line(done, 1, "401 Invalid API token", "cmzon-secrets rotate replaces it")


def test_what_the_hint_names_helps_also_while_the_token_before_is_in_its_grace(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    assert cli("rotate", sealed, "--force").code == 0
    (item,) = json.loads(cli("get", sealed, "--json").out)["items"]
    expire = f"{api.base_url}/_emulator/tokens/{item['id']}/expire"
    urllib.request.urlopen(urllib.request.Request(expire, method="POST")).close()
    send = ["send", sealed, "--to", "+12025550123", "--text", "hi"]
    assert_one_line(cli(*send), 1, "401 Invalid API token", "cmzon-secrets rotate replaces it")
    assert "given up unrevoked, may still be alive" in cli("rotate", sealed).out
    assert cli(*send).code == 0


def test_an_api_that_cannot_be_reached(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    nowhere = "http://127.0.0.1:9"
    send = ["send", sealed, "--to", "+12025550123", "--text", "hi", "--json"]
    done = cli(*send, CMZON_BASE_URL=nowhere)
    assert_one_line(done, 1, "no answer")
    assert json.loads(done.out)["error"]["type"] == "TransportError"
    rotate = cli("rotate", sealed, "--force", "--json", CMZON_BASE_URL=nowhere)
    (item,) = json.loads(rotate.out)["items"]
    assert (rotate.code, item["state"], item["error"]["type"]) == (1, "failed", "TransportError")
    revoke = cli("revoke", sealed, "--yes", CMZON_BASE_URL=nowhere)
    assert revoke.code == 1
    assert "STILL ALIVE: tok_" in revoke.err


def test_an_admin_token_that_may_not_manage_tokens(cli, sealed, api):
    sending = "file:sending.sealed?key=keyfile:token.key"
    assert cli("rotate", sending).code == 0
    assert_one_line(cli("rotate", sealed, "--admin", sending), 1, "403", "tokens:manage")
    itself = cli("rotate", sending, "--force", "--admin", sending)
    assert_one_line(itself, 1, "lack tokens:manage", "or name another admin token")


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_ten_minutes_off_neither_revokes_nor_refuses(cli, sealed, api, minutes):
    assert cli("rotate", sealed, "--expires-in", "60d").code == 0
    assert cli("rotate", sealed, "--force", "--expires-in", "60d").code == 0
    body = json.dumps({"advance": minutes * 60}).encode()
    headers = {"Content-Type": "application/json"}
    shift = urllib.request.Request(f"{api.base_url}/_emulator/clock", body, headers)
    urllib.request.urlopen(shift).close()
    done = cli("rotate", sealed, "--expires-in", "60d", "--json")
    (item,) = json.loads(done.out)["items"]
    assert (done.code, item["actions"]) == (0, [])
    assert cli("send", sealed, "--to", "+12025550123", "--text", "hi").code == 0


def test_a_key_may_be_made_anywhere(cli):
    folder = cli.folder / "a-folder_x9Qz7Lk2Vb8Nn4Rt1"
    folder.mkdir()
    done = cli("keygen", str(folder / "k"))
    assert done.code == 0, done.err
    assert (folder / "k").stat().st_mode & 0o777 == 0o600


def test_status_of_what_cannot_be_read_says_why_on_one_line(cli):
    done = cli("status", "env:NOT_SET_HERE")
    assert done.code == 1
    assert done.err.startswith("error: env:NOT_SET_HERE — ")
