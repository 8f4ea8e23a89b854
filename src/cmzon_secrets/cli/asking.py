"""What a person or a program is asked for: a token, never from the command line's words; a yes."""

from __future__ import annotations

import os
import sys

from cmzon_secrets.cli.failures import NotBegun, UsageFailure
from cmzon_secrets.errors import ConfigurationError, shielded
from cmzon_secrets.prompts import ask_unseen
from cmzon_secrets.tokens import MAX_TOKEN_BYTES, Token
from cmzon_secrets.uri import shown_variable

__all__ = ["agreed", "read_token"]

_LIMIT = MAX_TOKEN_BYTES + 2
"""Bytes read at most: a token and its line break; what is longer is refused by its length."""


def agreed(question: str) -> None:
    """Ask a person, who must say yes. Raises UsageFailure where nobody sits or they decline, NotBegun
    where they interrupt."""
    if not sys.stdin.isatty():
        raise UsageFailure("there is no terminal to ask for confirmation", hint="give --yes")
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("\n")
        raise NotBegun from interrupt
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageFailure("not confirmed, nothing was changed", hint="answer y, or give --yes")


@shielded
def read_token(*, from_file: str | None, from_env: str | None) -> Token:
    """The token from a file, a variable, a prompt without echo, or one line of standard input.

    One line break at the end is dropped, any other blank refused. Raises InvalidToken,
    ConfigurationError where there is nothing to read, UsageFailure where two are named.
    """
    if from_file is not None and from_env is not None:
        raise UsageFailure("--from-file and --from-env cannot go together")
    if from_file is not None:
        return Token(_line(_from_file(from_file)))
    if from_env is not None:
        return Token(_line(_from_env(from_env)))
    return Token(_line(_typed() if sys.stdin.isatty() else _piped()))


def _line(data: bytes) -> str:
    if not data.strip():
        raise ConfigurationError(
            "token — nothing was given", hint="paste it when asked, or pipe it"
        )
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    return data.decode("utf-8", "replace")  # U+FFFD is in no token: refused, without the bytes


def _from_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # Path would resolve nothing more
            return file.read(_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} — {(error.strerror or 'unreadable').lower()}") from error


def _from_env(name: str) -> bytes:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(
            f"--from-env — no environment variable {shown_variable(name)} is set",
            hint="give the name of the variable, not its value",
        )
    return os.fsencode(value)


def _typed() -> bytes:
    typed = ask_unseen(
        "Token (not shown): ", what="token", stream=sys.stderr, hint="use --from-file or a pipe"
    )
    return typed.encode("utf-8", "replace")


def _piped() -> bytes:
    """Up to the end of the first line; what came along behind it is kept, so that it is refused."""
    data = b""
    while b"\n" not in data and len(data) <= _LIMIT:
        chunk = os.read(sys.stdin.fileno(), 8192)
        if not chunk:
            break
        data += chunk
    return data
