"""What became of each message, in Redis, for all machines: so that none is handed over twice.

A broker may deliver a message twice, and whoever sends it may die at any instant. So the entry
``sending`` is written just before the first byte leaves, by one script that only one caller passes,
and says until when he can be at work: no call outlasts its deadline. Where that time is over and
nothing else was written, he died in between, and the outcome is unknown.

=======  =====================================  ================================================
state    written                                what another delivery finds
=======  =====================================  ================================================
(none)                                          it was never sent
pending  after a try that the API did not take  the same: it may be sent
sending  before the first byte leaves           whoever sends it may be at work: come back later
sent     after the API took it                  that it is done
unknown  where it may have been sent            that a person decides, or the API, where its
                                                keys are trusted: then it may be sent again
dead     where the API refused it for good      that it is over
=======  =====================================  ================================================

What may once have been sent stays ``unknown`` until it is known to be sent. Entries hold no number
and no text: a key, ids, the API's reason, and a fingerprint too short to tell a number from.

Time is Redis's own. An entry is forgotten ``KEPT`` after its last change. Redis has to keep what it
was told (``maxmemory-policy noeviction``, ``appendonly yes``): an entry that is lost is a message
that may be sent again, with the same idempotency key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from cmzon_secrets.client.outbox.model import State
from cmzon_secrets.client.shared.server import checked, connect, place_of
from cmzon_secrets.errors import ProviderUnavailable

__all__ = ["KEPT", "Entry", "MessageLedger", "fingerprint"]

KEPT = timedelta(days=7)
"""Longer than a broker holds a message back: what is older can no longer come twice."""

RETRIES = 3

_KEPT = int(KEPT.total_seconds())
_PAGE = 500

# The state of the entry KEYS[1] as of now, for the scripts.
_STATE = """
local now = tonumber(redis.call('TIME')[1])
local known = redis.call('HMGET', KEYS[1], 'state', 'until', 'owner')
local state, owner = known[1], known[3]
if state == 'sending' and now >= tonumber(known[2]) then state = 'unknown' end
"""

# KEYS: entry, unsettled · ARGV: key, owner, fingerprint, seconds of work, trusted, seconds kept
_DEPART = (
    _STATE
    + """
local mine = known[1] == 'sending' and owner == ARGV[2]
local lost = state == 'unknown' and not mine
if state and state ~= 'pending' and not mine and not (lost and ARGV[5] == '1') then return 0 end
if lost then redis.call('HSET', KEYS[1], 'maybe', 1) end
redis.call('HSET', KEYS[1], 'state', 'sending', 'owner', ARGV[2], 'fingerprint', ARGV[3],
  'until', now + ARGV[4], 'changed', now)
if not mine then redis.call('HINCRBY', KEYS[1], 'tries', 1) end
redis.call('HSETNX', KEYS[1], 'since', now)
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
"""
)

# KEYS: entry, unsettled · ARGV: key, owner, state, seconds kept, name, value, name, value …
_SETTLE = (
    _STATE
    + """
local given = ARGV[3]
if owner and owner ~= ARGV[2] and given ~= 'sent' then return state end
if given ~= 'sent' and redis.call('HEXISTS', KEYS[1], 'maybe') == 1 then given = 'unknown' end
redis.call('HSET', KEYS[1], 'state', given, 'changed', now, unpack(ARGV, 5))
redis.call('HSETNX', KEYS[1], 'since', now)
if given == 'pending' then
  redis.call('HDEL', KEYS[1], 'owner', 'until')
else
  redis.call('HSET', KEYS[1], 'owner', ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
if given == 'sent' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
return given
"""
)

# KEYS: entry, unsettled · ARGV: key
_FORGET = (
    _STATE
    + """
if state ~= 'unknown' and state ~= 'dead' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a message.

    ``reason``: why it is not sent. ``tries``: how often it began to leave. ``since``,
    ``changed_at``: when it was first entered, and last.
    """

    key: str
    state: State
    reason: str | None
    tries: int
    message_id: str | None
    request_id: str | None
    fingerprint: str | None
    since: datetime
    changed_at: datetime

    @classmethod
    def of(cls, key: str, fields: Mapping[str, str], now: float) -> Self:
        """From what Redis holds, at its time ``now``."""
        state = State(fields["state"])
        lost = state is State.SENDING and now >= float(fields["until"])
        return cls(
            key=key,
            state=State.UNKNOWN if lost else state,
            reason="whoever sent it has died" if lost else fields.get("reason") or None,
            tries=int(fields.get("tries", 0)),
            message_id=fields.get("message_id") or None,
            request_id=fields.get("request_id") or None,
            fingerprint=fields.get("fingerprint"),
            since=datetime.fromtimestamp(float(fields["since"]), UTC),
            changed_at=datetime.fromtimestamp(float(fields["changed"]), UTC),
        )


class MessageLedger:
    """The entries of one account in the Redis at ``url``. Thread-safe; connects when it is used.

    Every method raises ProviderUnavailable where Redis does not do what it is asked.
    """

    def __init__(self, url: str, *, account: str, ca: str | None = None) -> None:
        parts = checked(url)
        self._place = place_of(parts)
        self._redis = connect(parts, ca, retries=RETRIES, decode_responses=True)
        self._entries = f"cmzon-secrets:{{{account}}}:message:"
        self._unsettled = f"cmzon-secrets:{{{account}}}:unsettled"
        self._depart = self._redis.register_script(_DEPART)
        self._settle = self._redis.register_script(_SETTLE)
        self._forget = self._redis.register_script(_FORGET)

    def entries(self, *keys: str) -> list[Entry | None]:
        """What is known of each; None: nobody began with it."""
        pages = (keys[first : first + _PAGE] for first in range(0, len(keys), _PAGE))
        return [entry for page in pages for entry in self._read(page)]

    def depart(
        self, key: str, owner: str, fingerprint: str, *, within: float, trusted: bool
    ) -> bool:
        """Enter that ``owner`` is about to send it; False: he must not.

        ``within``: the seconds in which the call has ended. ``trusted``: one whose outcome is
        unknown may be sent again.
        """
        told: list[str | float] = [key, owner, fingerprint, within, int(trusted), _KEPT]
        return bool(self._run(self._depart, key, told))

    def settle(self, key: str, owner: str, state: State, **facts: str | int | None) -> State:
        """Enter what became of it; the state it is in now.

        That it was sent is true whoever says so. All else is heeded from the last who sent it only.
        """
        told: list[str | float] = [key, owner, str(state), _KEPT]
        for name, value in facts.items():
            told += [name, "" if value is None else value]
        return State(self._run(self._settle, key, told))

    def unsettled(self) -> list[Entry]:
        """All that are not sent, the longest unchanged first: pending, sending, unknown, dead."""
        with _translated(self._place):
            seconds, _ = self._redis.time()
            self._redis.zremrangebyscore(self._unsettled, "-inf", seconds - _KEPT)
            keys = self._redis.zrange(self._unsettled, 0, -1)
        return [entry for entry in self.entries(*keys) if entry is not None]

    def forget(self, *keys: str) -> int:
        """Forget these where they are unknown or dead, so that they may be sent again; how many."""
        return sum(int(self._run(self._forget, key, [key])) for key in keys)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _read(self, keys: Sequence[str]) -> list[Entry | None]:
        with _translated(self._place):
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.hgetall(self._entries + key)
            pipe.time()
            *found, (seconds, _) = pipe.execute()
        return [Entry.of(k, f, seconds) if f else None for k, f in zip(keys, found, strict=True)]

    def _run(self, script: Any, key: str, told: Sequence[str | float]) -> Any:
        with _translated(self._place):
            return script(keys=[self._entries + key, self._unsettled], args=told)


def fingerprint(key: str, to: str, message: str) -> str:
    """Tells two messages with one key apart. Four bytes: too few to find a number by trying all."""
    told = "\0".join((key, to, message)).encode()
    return hashlib.sha256(told).hexdigest()[:8]


@contextmanager
def _translated(place: str) -> Iterator[None]:
    from redis.exceptions import RedisError

    reason = None
    try:
        yield
    except RedisError as error:
        reason = type(error).__name__
    if reason is not None:  # out here: redis-py's frames would be this error's context
        raise ProviderUnavailable(
            f"the ledger of messages — Redis did not do it: {reason}",
            uri=place,
            hint="nothing is sent that cannot be entered",
        )
