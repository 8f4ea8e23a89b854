"""Tokens made and revoked by a person in the dashboard; needs nothing but what the vendor states.

The person is told what to choose, types the new token without echo, and is told what to revoke.
Whether a token lives is found out with a message that cannot be sent: ``POST /v1/messages`` with
the body ``{}``. 401 is a dead token; any other refusal is a live one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import ClassVar

from cmzon_secrets.answers import api_error
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import APIError, AuthenticationError, IssuerError, shielded
from cmzon_secrets.http import Session
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.prompts import ask_unseen
from cmzon_secrets.tokens import MAX_TOKEN_BYTES, Token

__all__ = ["ManualIssuer"]


class ManualIssuer(TokenIssuer):
    """Asks a person to make and revoke tokens in the dashboard. Only where somebody sits.

    ``ask(prompt)`` returns what was typed, by default without echo at a terminal, else one line of
    standard input; ``tell(text)`` shows text, by default on standard error. ``base_url``, ``ca``
    and ``timeout`` are those of ``http.Session``.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"base_url", "ca", "timeout", "ask", "tell", "clock"}
    )

    lists = False
    idempotent = False
    interactive = True

    def __init__(
        self,
        *,
        base_url: str | None = None,
        ca: str | None = None,
        timeout: float = 10.0,
        ask: Callable[[str], str] | None = None,
        tell: Callable[[str], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._http = Session(base_url, ca=ca, timeout=timeout)
        self._ask = ask or _ask_unseen
        self._tell = tell or _tell_on_stderr
        self._at_terminal = ask is None
        self._clock = clock

    def issue(
        self,
        request: TokenRequest,
        *,
        idempotency_key: str,  # noqa: ARG002  # the contract's; a person has no use for it
    ) -> Token:
        """Have a token made in the dashboard, and take it in.

        The metadata is what was asked of the person; the API is not asked. Raises IssuerError
        where nothing was typed, InvalidToken where it is no token.
        """
        self._tell(_instructions(request))
        return self._taken_in(self._ask("New token (not shown): ").strip(), request)

    def verify(self, token: Token) -> TokenInfo:
        """Whether a token lives, found out without sending anything.

        Raises AuthenticationError where it is dead; a refusal for any other reason shows life, so
        a missing scope or a wrong address goes unnoticed here.
        """
        what = f"verifying {token.id}"
        answer = self._http.send("POST", "/v1/messages", token=token, json={})
        if answer.status < 400:
            raise IssuerError(
                f"{what} — the API answered {answer.status} to an empty message, which it must refuse"
            )
        if answer.status in (401, 429) or answer.status >= 500:
            raise api_error(answer, what=what)
        return TokenInfo(id=token.id, scopes=token.scopes)

    def revoke(self, token: Token | str) -> None:
        """Tell the person which token to revoke; a token that is dead already is not mentioned.

        At a terminal it waits for Enter; whether it was done is for ``verify`` to find out.
        """
        if isinstance(token, str):
            self._tell(f"Revoke this token in the CMzon dashboard: {token}")
        elif self._may_live(token):
            self._tell(_farewell(token))
        else:
            return
        if self._at_terminal:
            _wait_for_enter()

    def list(self, name: str) -> Iterator[TokenInfo]:
        """Not to be had: only the dashboard shows which tokens there are."""
        raise IssuerError(
            f"listing the tokens named {name!r} — only the dashboard can",
            hint='look in the CMzon dashboard under "API Settings"',
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @shielded
    def _taken_in(self, typed: str, request: TokenRequest) -> Token:
        if not typed:
            raise IssuerError(
                "new token — nothing was given", hint="repeat it, and paste the token when asked"
            )
        now, life = self._clock.now(), _life(request)
        return Token(
            typed,
            scopes=request.scopes,
            issued_at=now,
            expires_at=now + life if life is not None else None,
            allowed_ips=request.allowed_ips,
        )

    def _may_live(self, token: Token) -> bool:
        try:
            self.verify(token)
        except AuthenticationError:
            return False
        except (APIError, IssuerError):
            pass  # nobody can tell, so the person is told
        return True


def _instructions(request: TokenRequest) -> str:
    life = _life(request)
    wanted = [
        ("name", request.name),
        ("permissions", ", ".join(request.scopes)),
        ("allowed IPs", ", ".join(request.allowed_ips) or "no restriction"),
        ("expires", "never" if life is None else f"after {life}"),
    ]
    return "\n".join(
        [
            'In the CMzon dashboard, go to "API Settings" → "Generate New Token" and choose:',
            *(f"  {label:<12} {value}" for label, value in wanted),
            "Do not revoke the old token yet: you are told when.",
        ]
    )


def _farewell(token: Token) -> str:
    facts = [f"id {token.id}"] if token.has_issuer_id else []
    facts.append(f"fingerprint sha256:{token.fingerprint}")
    if token.issued_at is not None:
        facts.append(f"made {token.issued_at:%Y-%m-%d %H:%M} UTC")
    return f"Revoke this token in the CMzon dashboard: {', '.join(facts)}"


def _life(request: TokenRequest) -> timedelta | None:
    life = request.expires_in
    return life if life is None or isinstance(life, timedelta) else timedelta(seconds=life)


def _tell_on_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _wait_for_enter() -> None:
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("Press Enter when it is revoked. ")
        sys.stderr.flush()
        sys.stdin.readline()


def _ask_unseen(prompt: str) -> str:
    """One line: without echo at a terminal, else from standard input. Nothing left: empty."""
    if sys.stdin is None:
        return ""
    if not sys.stdin.isatty():
        try:
            return sys.stdin.readline(2 * MAX_TOKEN_BYTES)
        except UnicodeDecodeError:
            return "\N{REPLACEMENT CHARACTER}"  # no token has it; the error would hold the bytes
    return ask_unseen(prompt, what="new token", hint="pipe it in as one line")
