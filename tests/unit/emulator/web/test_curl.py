"""The command that sends a kept request again: the same words in every shell, and no secret."""

import json
import shlex
import shutil
import subprocess
from itertools import product
from typing import Any

import pytest

from cmzon_secrets.emulator.account.exchanges import ExchangeFilter
from cmzon_secrets.emulator.web.curl import as_curl, quoted
from cmzon_secrets.emulator.web.visible import visible

WORDS = [
    *map("".join, product("\\'\"x", repeat=3)),
    *("\\'\"; touch pwned #", "'$(id)'", "`id`", "!x", "$HOME", "~", "%self", "a=b", "*", "{a,b}"),
    *("\\", "'", "two\nlines\\\n", "\\n\\u0027", "<>|&;()", "-n", "é 👍", "a b\tc"),
]


@pytest.mark.parametrize("shell", ["bash", "dash", "fish"])
def test_every_shell_reads_a_quoted_word_as_it_stands(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"not run: {shell} is not installed")
    command = f"env printf '%s\\0' {' '.join(map(quoted, WORDS))}"
    done = subprocess.run(  # what is quoted, on purpose
        [shell, "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.decode().split("\0")[:-1] == WORDS


def test_a_word_that_needs_no_quotes_has_none():
    assert quoted("http://127.0.0.1:8025/v1/messages") == "http://127.0.0.1:8025/v1/messages"
    assert quoted("") == "''"


def as_sent_again(api: Any, ca: str | None = None) -> str:
    (exchange,) = api.emulator._ask(lambda a: a.exchanges.newest(ExchangeFilter(), 1))
    return as_curl(exchange, "http://127.0.0.1:1/v1/messages", ca)


UNSEEN = "שלום\u200f! \u202egnp.exe\u202c \u2066x\u2069 \x7f\x85 C:\\\u200e"
"""In a body: not escaped, as a program that writes UTF-8 sends it."""


def test_json_is_written_so_that_all_of_it_is_seen_and_sends_the_same_message(api):
    body = json.dumps({"to": "+1234567890", "text": {"body": UNSEEN}}, ensure_ascii=False, indent=1)
    api.call("POST", "/v1/messages", content=body.replace("\n", "\r\n").encode())
    command = as_sent_again(api)
    assert visible(command) == command
    assert "שלום\\u200f! \\u202egnp.exe\\u202c" in command
    assert json.loads(shlex.split(command)[-1]) == json.loads(body)


@pytest.mark.parametrize("body", ["\u202e{not JSON", '{"a": "\x1b"}', f"{'[' * 60_000}\u200f"])
def test_what_is_no_json_has_no_other_way_to_be_written(api, body):
    api.call("POST", "/v1/messages", content=body.encode())
    assert shlex.split(as_sent_again(api))[-1] == body


def test_under_tls_the_command_names_the_ca(api):
    api.send()
    command = as_sent_again(api, "/tmp/it's here/ca.pem")
    assert shlex.split(command)[:3] == ["curl", "--cacert", "/tmp/it's here/ca.pem"]


@pytest.mark.parametrize(
    "header",
    [
        ("X-Upstream", "Bearer of-another-service"),
        ("X-Upstream", "Basic dXNlcjpwYXNz"),
        ("X-Session", "abc"),
        ("X-Note", f"see cmz_{'a' * 43}"),
    ],
)
def test_a_header_of_which_a_fingerprint_is_left_is_not_sent_again(api, header):
    api.call("POST", "/v1/messages", json={}, headers=dict([header]))
    command = as_sent_again(api)
    assert header[0].lower() not in command.lower()
    assert '-H "Authorization: Bearer $CMZON_API_TOKEN"' in command


def test_a_long_header_is_sent_again_whole(api):
    api.call("POST", "/v1/messages", json={}, headers={"X-Note": "x" * 5000})
    assert f"x-note: {'x' * 5000}'" in as_sent_again(api)
