"""Whoever puts messages in, and whoever sends them, is killed at random instants; the API fails, too.

What the API accepted is counted where it was accepted. The texts are unique, so that a message
accepted twice is seen where no idempotency key hides it.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import cmzon_secrets
from cmzon_secrets.client.outbox import Outbox, State
from cmzon_secrets.emulator import Emulator

PROGRAM = Path(__file__).with_name("outbox_actors.py")
FAULTS = [
    {"latency": 0.03, "probability": 0.5, "seed": 1},
    {"latency": 0.05, "probability": 0.5, "after_accept": True, "seed": 6},
    {"reset": True, "after_accept": True, "probability": 0.03, "seed": 2},
    {"reset": True, "probability": 0.03, "seed": 3},
    {"status": 500, "probability": 0.03, "seed": 4},
    {"status": 429, "retry_after": 0, "probability": 0.03, "seed": 5},
]


class Actors:
    """The program, and what it told."""

    def __init__(self, process):
        self._process = process
        self.put = set()
        """Keys of messages whose ``put`` returned."""

    def start(self, do, **options):
        """The process id, once it has begun."""
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        return int(self.heard("began"))

    def heard(self, what):
        """Listen until that is told."""
        for line in self._process.stdout:
            told, fact = line.split()
            if told == "put":
                self.put.add(fact)
            if told == what:
                return fact
        raise AssertionError("the program ended")


@contextmanager
def actors(token):
    path = str(Path(cmzon_secrets.__file__).parents[1])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "CMZON_API_TOKEN": token}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Actors(process)


@contextmanager
def failing_api(folder):
    with Emulator(state=folder, limits=False) as emulator:
        for fault in FAULTS:
            body = json.dumps({"route": "POST /v1/messages", **fault}).encode()
            request = urllib.request.Request(f"{emulator.base_url}/_emulator/faults", data=body)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request):
                pass
        yield emulator


class Kills:
    """Rounds, in each of which one puts in and two send until all are killed, not at once."""

    def __init__(self, actors, outbox, **sending):
        self.n = 0
        self._actors = actors
        self._path = str(outbox)
        self._sending = {"path": self._path, **sending}
        self._random = random.Random(11)

    def round(self):
        begun = [self._actors.start("put", path=self._path, name=f"k{self.n}")]
        begun += [self._send() for _ in range(2)]
        self._random.shuffle(begun)
        for process in begun:
            time.sleep(self._random.uniform(0.02, 0.25))
            os.kill(process, signal.SIGKILL)
            self.n += 1

    def drain(self):
        """Nobody is killed any more."""
        last = self._send(until_empty=True, workers=32)
        assert int(self._actors.heard("done")) == last

    def _send(self, **options):
        return self._actors.start("send", **self._sending, **options)


def accepted(folder):
    """Texts of the messages that the API took, in its order."""
    with closing(sqlite3.connect(folder / "emulator.db")) as db:
        taken = (
            "SELECT text, min(seq) FROM exchanges WHERE message_id IS NOT NULL GROUP BY message_id"
        )
        return [text for (text, _) in db.execute(f"{taken} ORDER BY min(seq)")]


def keys_by_state(path):
    with Outbox(path) as outbox:
        return {state: [r.key for r in outbox._store.look(state)] for state in State}


@pytest.mark.slow
@pytest.mark.parametrize("idempotency", ["off", "trust"])
def test_no_message_is_lost_or_sent_twice_whoever_is_killed(tmp_path, idempotency):
    api, outbox = tmp_path / "api", tmp_path / "outbox"
    with Outbox(outbox) as full:  # else the senders would often have nothing on the wire
        full.put_many([(f"+1202555{n % 25:04}", text := f"first-{n}", text) for n in range(500)])
    with failing_api(api) as emulator, actors(emulator.admin_token) as cast:
        kills = Kills(cast, outbox, base_url=emulator.base_url, idempotency=idempotency)
        for _ in range(5):
            kills.round()
        kills.drain()
        stats = emulator.stats()
    states = keys_by_state(outbox)
    counts = {str(state): len(keys) for state, keys in states.items()}
    print(f"{kills.n} kills, {len(cast.put)} told to be in: {counts}; {stats['by_status']}")

    texts = accepted(api)
    everything = {key for keys in states.values() for key in keys}
    assert cast.put <= everything, "put in, and gone"
    assert len(everything) >= 500 + len(cast.put)
    assert max(Counter(texts).values()) == 1, "accepted twice"
    assert set(states[State.SENT]) <= set(texts), "called sent, and was not"
    assert set(texts) <= set(states[State.SENT] + states[State.UNKNOWN])
    assert not states[State.PENDING] + states[State.SENDING] + states[State.DEAD]
    if idempotency == "trust":
        assert not states[State.UNKNOWN]
        assert stats["messages"] == stats["distinct_idempotency_keys"] == len(everything)
