"""Tokens by CMzon's token API, which is assumed: ``token_api.py`` holds every path and name.

    POST   /v1/tokens            issue     with the admin token
    GET    /v1/tokens?name=…     list      with the admin token
    GET    /v1/tokens/self       verify    with the token that is asked about
    DELETE /v1/tokens/{id}       revoke    with the admin token

The admin token needs the scope ``tokens:manage``. It is read from its provider at each call and
never kept, so it may rotate too. Nothing is repeated here: whoever calls decides, with the same
idempotency key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

from cmzon_secrets.answers import Answer, api_error
from cmzon_secrets.errors import (
    AuthenticationError,
    CMzonSecretsError,
    ConfigurationError,
    IssuerError,
)
from cmzon_secrets.http import Session
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.issuers.token_api import TokenAPI, broken
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

__all__ = ["CMzonIssuer", "TokenAPI"]

MAX_PAGES = 1000
"""Pages of one listing that are read; an API that goes on beyond is broken, not large."""


class CMzonIssuer(TokenIssuer):
    """Issues, verifies, lists and revokes by the token API.

    ``admin``: the provider of a token with ``tokens:manage``, or its URI. A provider given stays
    the caller's to close. ``base_url`` (default ``$CMZON_BASE_URL``), ``ca`` and ``timeout`` are
    those of ``http.Session``; ``api`` renames what the API names otherwise.

    Where the admin token is refused, the error is an IssuerError: an AuthenticationError always
    speaks of the token that was to be verified. What the admin's provider raises passes through.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"admin", "base_url", "ca", "timeout", "api"})

    def __init__(
        self,
        admin: TokenProvider | str,
        *,
        base_url: str | None = None,
        ca: str | None = None,
        timeout: float = 10.0,
        api: TokenAPI = TokenAPI(),  # noqa: B008  # frozen, so sharing it harms nobody
    ) -> None:
        self._http = Session(base_url, ca=ca, timeout=timeout)
        self._api = api
        self._admin = _opened(admin)
        self._closes_admin = self._admin is not admin

    def check_request(self, request: TokenRequest) -> None:
        """Raise ConfigurationError for a request that cannot be right, or would replace the admin
        token by one that can no longer issue; nothing is sent."""
        self._api.body_of(request)
        self._refuse_to_disarm(self._admin.get(), request)

    def issue(self, request: TokenRequest, *, idempotency_key: str) -> Token:
        """Create a token; the same key again gives the same one.

        Raises ConfigurationError as ``check_request`` does, before anything is sent, and IssuerError for an
        answer that is not the token asked for; no message holds its value.
        """
        what = _issuing(request)
        answer, admin = self._as_admin(
            "POST",
            self._api.tokens_path,
            json=self._api.body_of(request),
            headers={self._api.idempotency_header: idempotency_key},
            unless=lambda admin: self._refuse_to_disarm(admin, request),
        )
        if answer.status not in (200, 201):
            raise _refusal(answer, what, admin)
        token = self._api.issued(answer, request, what=what)
        if token == admin:
            raise IssuerError(f"{what} — the API answered with the admin token itself")
        return token

    def verify(self, token: Token) -> TokenInfo:
        """What the API says of a token, asked with the token itself.

        Raises AuthenticationError where it is dead, PermissionDenied where this address may not
        use it.
        """
        what = f"verifying {token.id}"
        answer = self._send("GET", self._api.self_path, token=token)
        if answer.status != 200:
            raise _unexpected(answer, what)
        return self._api.info(answer, what=what)

    def revoke(self, token: Token | str) -> None:
        """Kill a token. One without an issuer's id is first asked for its id.

        Already revoked, expired or unknown: no error.
        """
        token_id = token if isinstance(token, str) else self._id_of(token)
        if token_id is None:
            return
        answer, admin = self._as_admin("DELETE", self._api.path_of(token_id))
        if answer.status not in (200, 202, 204, 404, 410):
            raise _refusal(answer, f"revoking {token_id}", admin)

    def check_revocation(self, token_id: str) -> None:
        """Raise ConfigurationError for the admin token: without it nothing is issued or revoked any more.

        Costs a call at most. Where that or the admin's place fails, nothing is raised: an emergency goes on.
        """
        own = None
        with suppress(CMzonSecretsError):
            own = self._id_of(self._admin.get())
        if own == token_id:
            raise ConfigurationError(
                f"{token_id} — that is the admin token itself: without it nothing could be issued or"
                " revoked any more, for any account that uses it",
                hint="check the id; where that one has leaked, put a new admin token in its place first,"
                " then repeat this (docs/runbook.md)",
            )

    def list(self, name: str) -> Iterator[TokenInfo]:
        """Every token of exactly this name, revoked ones included; pages are read as needed."""
        what = f"listing the tokens named {name!r}"
        cursor, seen = None, set[str]()
        for _ in range(MAX_PAGES):
            answer, admin = self._as_admin("GET", self._api.page_path(name, cursor))
            if answer.status != 200:
                raise _refusal(answer, what, admin)
            entries, cursor = self._api.page(answer, what=what)
            # Where the API ignores the filter, a sweep must still not see other accounts' tokens.
            yield from (entry for entry in entries if entry.name == name)
            if cursor is None:
                return
            if cursor in seen:
                raise broken(what, "a page's cursor repeats an earlier one")
            seen.add(cursor)
        raise broken(what, f"it does not end after {MAX_PAGES} pages")

    def close(self) -> None:
        """Close the connections, and the admin's provider where this opened it."""
        self._http.close()
        if self._closes_admin:
            self._admin.close()

    def _id_of(self, token: Token) -> str | None:
        """The issuer's id; None where the token is dead, so that nobody can tell and none need."""
        if token.has_issuer_id:
            return token.id
        try:
            return self.verify(token).id
        except AuthenticationError:
            return None

    def _as_admin(
        self,
        method: str,
        path: str,
        *,
        unless: Callable[[Token], None] | None = None,
        **request: Any,
    ) -> tuple[Answer, Token]:
        """Send with the admin token; once more if it was replaced between reading and use.

        ``unless`` is told the token before it is used, and may refuse it.
        """
        admin = self._admin.get()
        if unless is not None:
            unless(admin)
        answer = self._send(method, path, token=admin, **request)
        if answer.status == 401 and (fresh := self._admin_instead_of(admin)) != admin:
            if unless is not None:
                unless(fresh)
            return self._send(method, path, token=fresh, **request), fresh
        return answer, admin

    def _send(self, method: str, path: str, **request: Any) -> Answer:
        answer = self._http.send(method, path, **request)
        self.server_date = answer.date
        return answer

    def _refuse_to_disarm(self, admin: Token, request: TokenRequest) -> None:
        """The admin token may be replaced too, but only by one that can do the same."""
        scope = self._api.manage_scope
        if request.replacing == admin and scope not in request.scopes:
            raise ConfigurationError(
                f"{_issuing(request)} — it would replace the admin token itself, and its scopes"
                f" ({', '.join(request.scopes)}) lack {scope}: nothing could be issued or revoked any more",
                hint=f'--scope {scope}, or scopes = ["{scope}"] of the account'
                " (CMZON_ROTATION_SCOPES); or name another admin token",
            )

    def _admin_instead_of(self, refused: Token) -> Token:
        self._admin.invalidate(refused)  # a cache would hand it out again
        return self._admin.get()


def _issuing(request: TokenRequest) -> str:
    return f"issuing a token named {request.name!r}"


def _opened(admin: object) -> TokenProvider:
    if isinstance(admin, TokenProvider):
        return admin
    if not isinstance(admin, str) or not admin:
        raise ConfigurationError(
            "admin token — the issuer needs the provider or URI of a token with tokens:manage",
            hint="give --admin URI, or export CMZON_ADMIN_URI",
        )
    from cmzon_secrets.registry import open_provider

    return open_provider(admin)


def _refusal(answer: Answer, what: str, admin: Token) -> CMzonSecretsError:
    """The error for a call of the admin token; its 401 must not read as another token's death."""
    what = f"{what} with the admin token {admin.id}"
    error = _unexpected(answer, what)
    if answer.status == 403:
        error.hint = "the admin token needs tokens:manage, and this address in its allowed_ips"
    if not isinstance(error, AuthenticationError):
        return error
    problem = IssuerError(
        f"{what} — it is the admin token that is refused (401): expired, revoked or unknown",
        hint="put a fresh token with tokens:manage where the admin token is kept",
    )
    problem.__cause__ = error
    return problem


def _unexpected(answer: Answer, what: str) -> CMzonSecretsError:
    if answer.status < 400:
        return broken(what, f"its status is {answer.status}")
    return api_error(answer, what=what)
