"""The command that sends a kept request again: the same words in every shell, and no secret."""

import shutil
import subprocess
from itertools import product
from typing import Any

import pytest

from cmzon_secrets.emulator.account.exchanges import ExchangeFilter
from cmzon_secrets.emulator.web.curl import as_curl, quoted

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


def as_sent_again(api: Any) -> str:
    (exchange,) = api.emulator._ask(lambda a: a.exchanges.newest(ExchangeFilter(), 1))
    return as_curl(exchange, "http://127.0.0.1:1/v1/messages")


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
