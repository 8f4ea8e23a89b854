"""Processes that share limits, on a clock that is a number, with the real script on a real Redis.

Only the two questions that the script puts to its server, its time and its identity, are answered
by the test.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from cmzon_secrets.client.shared.limits import KNOCK_EVERY, SharedLimits
from cmzon_secrets.client.shared.server import Told, Unreachable, _script
from unit.client.virtual_time import NOON, VirtualTime


def _with_arguments(script: str) -> str:
    for question, argument in [
        ("redis.call('TIME')", "cjson.decode(ARGV[2])"),
        ("redis.pcall('INFO', 'server')", "ARGV[3]"),
    ]:
        assert script.count(question) == 1
        script = script.replace(question, argument)
    return script


class VirtualRedis:
    """An account on a server that a test lets vanish and come back. ``ahead``: of our clock, seconds."""

    def __init__(self, connection: Any, time: VirtualTime, *, ahead: float = 0.0) -> None:
        self._connection = connection
        self._time = time
        self.ahead = ahead
        self._run = 1
        self._started = -3600.0
        self.is_there = True
        self.takes = 0.0
        """Seconds until an answer is heard, where one process alone asks."""
        self.back_at: dict[str, float] = {}
        """By process: until when its network takes longer to find the server again."""
        self._run_script = connection.register_script(_with_arguments(_script()[0]))
        self._account = uuid.uuid4().hex

    @property
    def keys(self) -> list[str]:
        return [self._account, f"{self._account}:processes", f"{self._account}:arrivals"]

    def figures(self) -> dict[str, float]:
        kept = self._connection.hgetall(self._account)
        return {name.decode(): float(value) for name, value in kept.items() if name != b"run"}

    def restart(self, *, empty: bool) -> None:
        """It is there, and another than before."""
        if empty:
            self._connection.delete(*self.keys)
        self._run += 1
        self._started = self._time.seconds
        self.is_there = True

    def ask(self, question: Mapping[str, Any]) -> Told:
        back_at = self.back_at.get(question["member"], 0.0)
        if not self.is_there or self._time.seconds < back_at:
            raise Unreachable("ConnectionError")
        now = NOON.timestamp() + self.ahead + self._time.seconds
        moment = [int(now), round(now % 1 * 1e6)]
        info = (
            f"run_id:{self._run:x}\nuptime_in_seconds:{int(self._time.seconds - self._started)}\n"
        )
        reply = self._run_script(self.keys, [json.dumps(question), json.dumps(moment), info])
        self._time.seconds += self.takes
        return Told.from_reply(reply)

    def close(self) -> None:
        pass


class Process(SharedLimits):
    """Shared limits whose Redis is ``redis``, and whose background is virtual time's."""

    def __init__(self, redis: VirtualRedis, time: VirtualTime, **options: Any) -> None:
        super().__init__("redis://127.0.0.1:1/0", account="any", **options)
        self._server = redis  # type: ignore[assignment]
        self._time = time
        self._begin()

    def _knock_until(self, answered, clock):
        line = self._line

        def knock() -> None:
            if not answered.is_set():
                self._knock(line, clock)
                self._time.after(KNOCK_EVERY, knock)

        self._time.after(KNOCK_EVERY, knock)
