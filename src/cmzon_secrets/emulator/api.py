"""The routes under ``/v1``: messages, tokens, audit trail."""

from __future__ import annotations

from collections.abc import Collection

from starlette.responses import Response

from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.answers import invalid_request, success
from cmzon_secrets.emulator.exchange import Call, Endpoint, read_object
from cmzon_secrets.emulator.fields import refuse_unknown
from cmzon_secrets.emulator.idempotency import Use, checked_key
from cmzon_secrets.emulator.messages import ROUTE as MESSAGES
from cmzon_secrets.emulator.messages import Message
from cmzon_secrets.emulator.tokens import AUDIT, MANAGE, SEND, TokenWish

__all__ = ["API"]

TOKENS = "POST /v1/tokens"
PAGE = 50


class API:
    """What each endpoint does once the token was let in."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def endpoints(self) -> list[Endpoint]:
        """Every route; the order matters where one path matches another's template."""
        return [
            Endpoint(
                MESSAGES,
                self._send_message,
                scope=SEND,
                headers=self._account.messages.rate_headers,
            ),
            Endpoint(TOKENS, self._issue_token, scope=MANAGE),
            Endpoint("GET /v1/tokens", self._list_tokens, scope=MANAGE),
            Endpoint("GET /v1/tokens/self", self._show_own_token, counts_as_use=False),
            Endpoint("DELETE /v1/tokens/{id}", self._revoke_token, scope=MANAGE),
            Endpoint("GET /v1/audit", self._list_audit, scope=AUDIT),
        ]

    async def _send_message(self, call: Call) -> Response:
        body = await read_object(call.request)
        message = Message.parse(body)
        message_id = self._account.messages.accept(
            message,
            _use(call, MESSAGES, body),
            token_id=call.caller.id,
            request_id=call.id,
        )
        return success({"id": message_id, "status": "accepted", "to": message.to})

    async def _issue_token(self, call: Call) -> Response:
        body = await read_object(call.request)
        tokens = self._account.tokens
        token = tokens.issue(
            TokenWish.parse(body), self._account.clock.timestamp(), _use(call, TOKENS, body)
        )
        entry = token.entry()
        return success(
            {
                "id": token.id,
                "token": tokens.value_of(token),
                **{name: entry[name] for name in ("name", "scopes", "created_at", "expires_at")},
                "allowed_ips": list(token.allowed_ips),
            },
            status=201,
        )

    async def _list_tokens(self, call: Call) -> Response:
        query = _query(call, known=("name", "cursor"))
        found, cursor = self._account.tokens.page(query.get("name"), query.get("cursor"), PAGE)
        return success({"data": [token.entry() for token in found], "next_cursor": cursor})

    async def _show_own_token(self, call: Call) -> Response:
        return success(call.caller.entry())

    async def _revoke_token(self, call: Call) -> Response:
        self._account.tokens.revoke(call.request.path_params["id"], self._account.clock.timestamp())
        return Response(status_code=204)

    async def _list_audit(self, call: Call) -> Response:
        entries, cursor = self._account.audit.page(_query(call, known=("cursor",)).get("cursor"))
        return success({"data": entries, "next_cursor": cursor})


def _use(call: Call, route: str, body: dict[str, object]) -> Use | None:
    key = checked_key(call.request.headers.getlist("idempotency-key"))
    return Use.of(route, key, body) if key is not None else None


def _query(call: Call, *, known: Collection[str]) -> dict[str, str]:
    given = call.request.query_params.multi_items()
    refuse_unknown([name for name, _ in given], known)
    if len(dict(given)) < len(given):
        raise invalid_request("query — a parameter is given twice")
    return {name: value for name, value in given if value}
