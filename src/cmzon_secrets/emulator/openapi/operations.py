"""What each route is for, what it takes and what it answers; scopes and queries are the endpoints' own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cmzon_secrets.emulator.account.exchanges import KEPT, STATUS
from cmzon_secrets.emulator.account.history import EVENTS
from cmzon_secrets.emulator.controls.audit_trail import LONGEST_FILTER
from cmzon_secrets.emulator.controls.watching import LATEST, LISTED, MOST_LISTED
from cmzon_secrets.emulator.openapi.schemas import STATUS_MEANING, WANTED, Schema

__all__ = ["OPERATIONS", "QUERY", "Operation"]

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
_TEXT: Schema = {"type": "string"}
_PART: Schema = {**_TEXT, "maxLength": LONGEST_FILTER}
_SEQ: Schema = {"type": "integer", "minimum": 0, "maximum": LATEST}


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. ``body`` and ``answer`` are names of schemas; without one there is no body.

    ``refusals`` are the statuses of its own, beyond those that every route of its kind can answer.
    ``leads_to``: what can be done next with a member of the answer, as operation, parameter and
    where its value stands. ``assumed``: the vendor's page does not show it.
    """

    id: str
    summary: str
    status: int = 200
    answer: str | None = None
    body: str | None = None
    media_type: str = JSON
    refusals: tuple[int, ...] = ()
    idempotent: bool = False
    query: Mapping[str, Schema] = field(default_factory=dict)
    leads_to: tuple[tuple[str, str, str], ...] = ()
    assumed: bool = True


QUERY: dict[str, Schema] = {
    "name": {**_TEXT, "description": "Only tokens with this name"},
    "cursor": {**_TEXT, "description": "The next_cursor of the page before"},
}
"""Parameters of the API's own routes; which route takes which, its endpoint says."""

_WATCHED: dict[str, Schema] = {
    **WANTED,
    "status": {**_TEXT, "pattern": f"^({STATUS})?$", "description": STATUS_MEANING},
    "after": {**_SEQ, "description": "A seq; later ones only"},
    "before": {**_SEQ, "description": "A seq; earlier ones only"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
}

OPERATIONS: dict[str, Operation] = {
    "POST /v1/messages": Operation(
        "sendMessage",
        "Send a text message; nothing is delivered to anybody",
        answer="Accepted",
        body="Message",
        refusals=(422, 429),
        idempotent=True,
        assumed=False,
    ),
    "POST /v1/tokens": Operation(
        "issueToken",
        "Make a token; the only answer that shows its value",
        status=201,
        answer="IssuedToken",
        body="TokenWish",
        refusals=(422,),
        idempotent=True,
        leads_to=(
            ("revokeToken", "id", "$response.body#/id"),
            ("expireToken", "id", "$response.body#/id"),
        ),
    ),
    "GET /v1/tokens": Operation(
        "listTokens", "Tokens, oldest first, revoked ones too", answer="Tokens"
    ),
    "GET /v1/tokens/self": Operation(
        "showOwnToken",
        "The token that asks; which does not count as use",
        answer="Token",
    ),
    "DELETE /v1/tokens/{id}": Operation(
        "revokeToken", "End a token for good; one that is unknown or dead is no error", status=204
    ),
    "GET /v1/audit": Operation(
        "listRequests", "Every request to the API, oldest first", answer="AuditEntries"
    ),
    "POST /_emulator/faults": Operation(
        "addFault",
        "Put a fault in force",
        answer="Fault",
        body="FaultWish",
        leads_to=(("endFault", "id", "$response.body#/id"),),
    ),
    "GET /_emulator/faults": Operation("listFaults", "The faults in force", answer="Faults"),
    "DELETE /_emulator/faults": Operation("endFaults", "End every fault", status=204),
    "DELETE /_emulator/faults/{id}": Operation(
        "endFault", "End one fault; one that is over is no error", status=204
    ),
    "GET /_emulator/limits": Operation(
        "showLimits", "The limits, and today's messages", answer="Limits"
    ),
    "POST /_emulator/limits": Operation(
        "setLimits", "Set other limits, until a reset", answer="Limits", body="LimitsWish"
    ),
    "GET /_emulator/clock": Operation("showClock", "The account's time", answer="Clock"),
    "POST /_emulator/clock": Operation(
        "advanceClock", "Move the clock", answer="Clock", body="ClockWish"
    ),
    "POST /_emulator/tokens/{id}/expire": Operation(
        "expireToken", "End a token's time now", answer="Token", refusals=(404,)
    ),
    "POST /_emulator/reset": Operation(
        "reset", "As new, but for the admin token and the snapshots", answer="Stats"
    ),
    "GET /_emulator/stats": Operation("showStats", "What happened", answer="Stats"),
    "GET /_emulator/audit.jsonl": Operation(
        "downloadTrail",
        "Everything done to tokens: one JSON object a line, oldest first",
        answer="TokenEvents",
        media_type=JSON_LINES,
        query={
            "token_id": {**_PART, "description": "The id, whole"},
            "token": {**_PART, "description": "An id, or a part of a name"},
            "event": {"type": "string", "enum": [*EVENTS, ""]},
            "by": {**_PART, "description": "A token's id or name, dashboard, control or emulator"},
            "ip": _PART,
        },
    ),
    "GET /_emulator/messages": Operation(
        "listMessages",
        f"Requests to send with their answers, oldest first; without --state the newest {KEPT}",
        answer="Exchanges",
        query=_WATCHED,
    ),
    "DELETE /_emulator/messages": Operation(
        "forgetMessages", "Forget what was sent; counts and limits stay as they are", status=204
    ),
    "GET /_emulator/messages/{request_id}": Operation(
        "showMessage", "One request to send with its answer", answer="Exchange", refusals=(404,)
    ),
    "POST /_emulator/messages/wait": Operation(
        "waitForMessage",
        "Wait for a message; 408 tells what came instead",
        answer="Exchange",
        body="Awaited",
        refusals=(408, 503),
    ),
    "GET /_emulator/snapshots": Operation("listSnapshots", "What was kept", answer="Snapshots"),
    "POST /_emulator/snapshots": Operation(
        "takeSnapshot",
        "Keep everything as it is now under a name; an older one of that name is replaced",
        status=201,
        answer="Snapshot",
        body="SnapshotWish",
        refusals=(500,),
        leads_to=(
            ("restoreSnapshot", "name", "$response.body#/name"),
            ("deleteSnapshot", "name", "$response.body#/name"),
        ),
    ),
    "POST /_emulator/snapshots/{name}/restore": Operation(
        "restoreSnapshot", "Everything as it was then", answer="Stats", refusals=(404, 409)
    ),
    "DELETE /_emulator/snapshots/{name}": Operation(
        "deleteSnapshot", "Remove a snapshot", status=204
    ),
}
