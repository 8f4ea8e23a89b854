"""What bodies look like, in JSON Schema; a limit that has a name is the very one that is checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cmzon_secrets.emulator.account.exchanges import ACCEPTED
from cmzon_secrets.emulator.account.exchanges import STATUS as STATUS_CHOICE
from cmzon_secrets.emulator.account.faults import (
    LARGEST_SEED,
    LONGEST_LATENCY,
    LONGEST_RETRY_AFTER,
    MOST_STRIKES,
    STATUSES,
)
from cmzon_secrets.emulator.account.history import EVENTS
from cmzon_secrets.emulator.account.limits import LARGEST_QUOTA
from cmzon_secrets.emulator.account.messages import LONGEST_TEXT, NUMBER
from cmzon_secrets.emulator.account.snapshots import NAME as SNAPSHOT_NAME
from cmzon_secrets.emulator.account.tokens import (
    LONGEST_LIFE,
    LONGEST_NAME,
    MOST_ADDRESSES,
    SCOPES,
    SEEN,
)
from cmzon_secrets.emulator.clock import FARTHEST_SHIFT
from cmzon_secrets.emulator.controls.watching import LATEST, LONGEST_WAIT, TEXTS

__all__ = ["STATUS_MEANING", "WANTED", "Schema", "optional", "ref", "schemas"]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NULL: Schema = {"type": "null"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
TOKEN_ID: Schema = {"type": "string", "pattern": "^tok_[0-9a-f]{24}$"}
REQUEST_ID: Schema = {"type": "string", "pattern": "^req_[0-9a-f]{16}$"}
STATUS: Schema = {"type": "integer", "minimum": 100, "maximum": 599}
_MEANT = {
    "to": "The recipient, whole",
    "text": "Found anywhere in the text, in any case",
    "token_id": "The token it came with",
}
WANTED: dict[str, Schema] = {
    name: {
        **TEXT,
        "maxLength": longest,
        **({"description": _MEANT[name]} if name in _MEANT else {}),
    }
    for name, longest in TEXTS.items()
}
"""Which messages are meant."""
STATUS_MEANING = "accepted, failed, a status, a class of them, or none: no answer"
_WITH_STATUS = {"required": ["status"], "properties": {"status": {"not": NULL}}}
_RESET: Schema = {"required": ["reset"], "properties": {"reset": {"const": True}}}
_WHAT_GOES_WITH_WHAT: dict[str, Any] = {
    "if": {"required": ["retry_after"], "properties": {"retry_after": {"not": NULL}}},
    "then": {"anyOf": [_WITH_STATUS, _RESET]},
}


def schemas(routes: Sequence[str], *, strict: bool) -> dict[str, Schema]:
    """Every schema by its name. ``routes`` are the API's; ``strict``: unknown fields are refused."""
    return {**_sent_to_the_api(open_=not strict), **_answered_by_the_api(), **_controls(routes)}


def ref(name: str) -> Schema:
    """A reference to one of ``schemas``."""
    return {"$ref": f"#/components/schemas/{name}"}


def optional(schema: Schema) -> Schema:
    """The same, or null, which is as good as absent."""
    return {**schema, "type": [schema["type"], "null"]}


def _object(
    properties: dict[str, Schema],
    *,
    needed: Collection[str] | None = None,
    open_: bool = False,
    **more: Any,
) -> Schema:
    """An object; all its properties are needed unless ``needed`` names them. ``open_`` to others."""
    required = list(properties if needed is None else needed)
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": open_,
        **more,
    }


def _list(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


def _page(item: str, last: Schema) -> Schema:
    described = {"description": "What to ask for next; null: this was the last page"}
    return _object(
        {"data": _list(ref(item)), "next_cursor": {**optional(last), **described}},
    )


def _sent_to_the_api(*, open_: bool) -> dict[str, Schema]:
    number = {
        "type": "string",
        "pattern": f"^{NUMBER.pattern}$",
        "description": "A phone number in E.164",
    }
    text = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}
    name = {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_NAME,
        "pattern": SEEN.pattern,
        "description": "With a character that can be seen",
    }
    address = {
        "type": "string",
        "format": "ip-network",
        "description": "An IP address, or a network whose host bits are 0",
    }
    return {
        "Message": _object(
            {
                "to": number,
                "type": {"type": "string", "const": "text"},
                "text": _object({"body": text}, open_=open_),
            },
            open_=open_,
            examples=[{"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}],
        ),
        "TokenWish": _object(
            {
                "name": name,
                "scopes": _list(
                    {"type": "string", "enum": list(SCOPES)}, minItems=1, uniqueItems=True
                ),
                "expires_in": {
                    **optional({"type": "number", "minimum": 1, "maximum": LONGEST_LIFE}),
                    "description": "Seconds until it ends by itself; without it never",
                },
                "allowed_ips": {
                    **optional(_list(address, maxItems=MOST_ADDRESSES, uniqueItems=True)),
                    "description": "Where it may be used from; without it anywhere",
                },
            },
            needed=("name", "scopes"),
            open_=open_,
            examples=[{"name": "acme", "scopes": ["messages:send"], "expires_in": 5184000}],
        ),
    }


def _answered_by_the_api() -> dict[str, Schema]:
    life = {"created_at": TIME, "expires_at": optional(TIME)}
    named = {"id": TOKEN_ID, "name": TEXT, "scopes": _list({"enum": list(SCOPES)})}
    return {
        "Error": _object({"error": ref("ErrorDetails")}),
        "ErrorDetails": _object(
            {
                "code": {**STATUS, "description": "The HTTP status again"},
                "message": TEXT,
                "details": {**TEXT, "description": "Where a field is at fault, begins with it"},
                "retry_after": {
                    "type": "number",
                    "minimum": 0,
                    "description": "Seconds, as in Retry-After",
                },
            },
            needed=("code", "message"),
        ),
        "Accepted": _object(
            {
                "id": {"type": "string", "pattern": "^msg_[0-9a-f]{24}$"},
                "status": {"const": "accepted"},
                "to": TEXT,
            }
        ),
        "IssuedToken": _object(
            {
                **named,
                "token": {
                    **TEXT,
                    "description": "The value, shown here only; the same Idempotency-Key shows it again",
                },
                **life,
                "allowed_ips": _list(TEXT),
            }
        ),
        "Token": _object(
            {
                **named,
                **life,
                "revoked_at": optional(TIME),
                "last_used_at": optional(TIME),
                "last_used_ip": optional(TEXT),
            }
        ),
        "Tokens": _page("Token", TOKEN_ID),
        "AuditEntry": _object(
            {
                "at": TIME,
                "method": TEXT,
                "route": {**optional(TEXT), "description": "A template; null: there is none such"},
                "status": {**optional(STATUS), "description": "null: the connection broke"},
                "token_id": optional(TOKEN_ID),
                "ip": TEXT,
                "request_id": REQUEST_ID,
            }
        ),
        "AuditEntries": _page("AuditEntry", TEXT),
    }


def _controls(routes: Sequence[str]) -> dict[str, Schema]:
    quota = optional({"type": "integer", "minimum": 1, "maximum": LARGEST_QUOTA})
    limits = {"per_second": quota, "per_day": quota}
    numbered = {"type": "string", "pattern": "^flt_[0-9]+$"}
    farthest = {"type": "number", "minimum": -FARTHEST_SHIFT, "maximum": FARTHEST_SHIFT}
    wish = _fault(routes)
    counted = {
        "drawn": {**COUNT, "description": "Requests for which it was drawn"},
        "struck": {**COUNT, "description": "Those of them that it struck"},
    }
    idle = _list(TEXT, description="The fields that reset leaves without an effect")
    fault = {"id": numbered, **wish, **_kept(wish), **counted, "without_effect": idle}
    always = ("id", "route", "latency", "reset", "after_accept", "probability", "seed", *counted)
    return {
        "FaultWish": _object(
            wish,
            needed=("route",),
            anyOf=[
                {"required": ["status"], "properties": {"status": {"type": "integer"}}},
                _RESET,
                {
                    "required": ["latency"],
                    "properties": {"latency": {"type": "number", "exclusiveMinimum": 0}},
                },
            ],
            **_WHAT_GOES_WITH_WHAT,
            examples=[{"route": "POST /v1/messages", "status": 500, "count": 3}],
        ),
        "Fault": _object(fault, needed=always),
        "Faults": _object({"data": _list(ref("Fault"))}),
        "LimitsWish": _object(
            limits,
            needed=(),
            minProperties=1,
            description="One that is not named stays; null lifts it",
            examples=[{"per_second": 80, "per_day": 1000}],
        ),
        "Limits": _object({**limits, "accepted_today": COUNT}),
        "ClockWish": _object(
            {"advance": {**farthest, "description": "Seconds; negative ones set it back"}},
            examples=[{"advance": 60 * 86400}],
        ),
        "Clock": _object({"now": TIME, "shift": farthest}),
        "Stats": _stats(),
        "TokenEvent": _object(
            {
                "seq": COUNT,
                "at": TIME,
                "event": {"type": "string", "enum": list(EVENTS)},
                "token_id": TOKEN_ID,
                "name": TEXT,
                "by": TEXT,
                "ip": optional(TEXT),
                "request_id": optional(TEXT),
            }
        ),
        "TokenEvents": _list(ref("TokenEvent"), description="A line each"),
        **_watching(),
        **_snapshots(),
    }


def _fault(routes: Sequence[str]) -> dict[str, Schema]:
    low, high = STATUSES
    return {
        "route": {"type": "string", "enum": list(routes)},
        "token": {**optional(TEXT), "description": "The id of the only token it strikes"},
        "status": {
            **optional({"type": "integer", "minimum": low, "maximum": high}),
            "description": "The answer; it has no effect beside reset",
        },
        "retry_after": {
            **optional({"type": "number", "minimum": 0, "maximum": LONGEST_RETRY_AFTER}),
            "description": "Seconds; needs a status to go with, and has no effect beside reset",
        },
        "latency": {
            **optional({"type": "number", "minimum": 0, "maximum": LONGEST_LATENCY}),
            "description": "Seconds to wait first, in real time",
        },
        "reset": {
            **optional(FLAG),
            "description": "The TCP connection is reset, without an answer",
        },
        "after_accept": {**optional(FLAG), "description": "The request takes effect first"},
        "count": {
            **optional({"type": "integer", "minimum": 1, "maximum": MOST_STRIKES}),
            "description": "How often; without it for ever",
        },
        "probability": {
            **optional({"type": "number", "minimum": 0, "maximum": 1}),
            "description": "How likely at each request; without it certain",
        },
        "seed": {
            **optional({"type": "integer", "minimum": 0, "maximum": LARGEST_SEED}),
            "description": "The same seed strikes the same requests; without it one is drawn",
        },
    }


def _kept(wish: dict[str, Schema]) -> dict[str, Schema]:
    """What a fault in force tells: no member of it is null."""
    return {
        name: {**schema, "type": schema["type"][0]}
        for name, schema in wish.items()
        if isinstance(schema["type"], list)
    }


def _watching() -> dict[str, Schema]:
    header = _list(TEXT, minItems=2, maxItems=2, description="Its name, in lower case, and value")
    sent = _object({"headers": _list(header), "body": TEXT})
    choice = {"type": "string", "pattern": f"^({STATUS_CHOICE})$"}
    return {
        "Exchange": _object(
            {
                "seq": COUNT,
                "message_id": {**optional(TEXT), "description": "null: it was not accepted"},
                "request_id": REQUEST_ID,
                "accepted": {
                    **FLAG,
                    "description": "Whether the API took it, whatever became of the answer",
                },
                "at": TIME,
                "seconds": {"type": "number", "description": "How long it took"},
                "to": optional(TEXT),
                "text": TEXT,
                "status": {**optional(STATUS), "description": "null: the connection broke"},
                "token_id": optional(TOKEN_ID),
                "ip": TEXT,
                "idempotency_key": optional(TEXT),
                "notes": _list(TEXT),
                "request": sent,
                "response": sent,
            }
        ),
        "Exchanges": _object({"data": _list(ref("Exchange"))}),
        "Awaited": _object(
            {
                **{name: optional(schema) for name, schema in WANTED.items()},
                "status": {
                    "anyOf": [choice, STATUS, NULL],
                    "description": f"{STATUS_MEANING}; without it {ACCEPTED}",
                },
                "after": {
                    **optional({**COUNT, "maximum": LATEST}),
                    "description": "A seq; later ones only",
                },
                "timeout": {
                    **optional({"type": "number", "minimum": 0, "maximum": LONGEST_WAIT}),
                    "description": "Seconds of real time",
                },
            },
            needed=(),
            examples=[{"to": "+1234567890", "timeout": 0}],
        ),
    }


def _snapshots() -> dict[str, Schema]:
    name = {"type": "string", "pattern": f"^{SNAPSHOT_NAME}$"}
    return {
        "SnapshotWish": _object({"name": name}, examples=[{"name": "before-rotation"}]),
        "Snapshot": _object({"name": name, "at": TIME, "size": {**COUNT, "description": "Bytes"}}),
        "Snapshots": _object({"data": _list(ref("Snapshot"))}),
    }


def _stats() -> Schema:
    counts = {"type": "object", "additionalProperties": COUNT}
    return _object(
        {
            "messages": {**COUNT, "description": "Accepted ones"},
            "distinct_idempotency_keys": COUNT,
            "by_status": {**counts, "description": "Answers to requests of the API"},
            "tokens": _object({"live": COUNT, "revoked": COUNT}),
            "max_per_sliding_second": COUNT,
        }
    )
