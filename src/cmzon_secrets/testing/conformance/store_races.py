"""Several writers at once: threads with a handle each, threads on one handle, real processes."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cmzon_secrets.errors import ConflictError
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.records import to_record
from cmzon_secrets.testing.conformance.store_hooks import (
    Open,
    StoreHooks,
    bootstrap,
    facts,
    new_token,
    rotate_to,
    seen,
)
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Races"]

Attempt = Callable[[], None]


class Races(StoreHooks):
    """Processes need the hook ``opener``.

    A store whose ``cas`` is ``"atomic"`` never shows a loser's token; one that is ``"detected"``
    may for a moment, but tells the loser and puts it right.
    """

    def test_of_threads_that_stage_different_tokens_one_wins(
        self, store: TokenStore, again: Open
    ) -> None:
        current = bootstrap(store)
        for _ in range(self.race_rounds):
            tokens = [new_token() for _ in range(self.racers)]
            won = race([staging(again(), token) for token in tokens])
            assert won.count("done") == 1, won
            assert set(won) <= {"done", "ConflictError"}
            winner = tokens[won.index("done")]
            assert seen(again().versions()) == seen(Versions(current, winner))
            store.discard(winner.id)

    def test_threads_that_stage_the_same_token_all_succeed(
        self, store: TokenStore, again: Open
    ) -> None:
        current, token = bootstrap(store), new_token()
        assert set(race([staging(again(), token) for _ in range(self.racers)])) == {"done"}
        assert seen(again().versions()) == seen(Versions(current, token))

    def test_threads_that_promote_the_same_token_all_succeed_once(
        self, store: TokenStore, again: Open
    ) -> None:
        current = bootstrap(store)
        for _ in range(self.race_rounds):
            token = new_token()
            store.stage(token)
            won = race([promoting(again(), token, current) for _ in range(self.racers)])
            assert set(won) == {"done"}
            assert seen(again().versions()) == seen(Versions(current=token, previous=current))
            store.discard(current.id)
            current = token

    def test_of_two_rotators_that_disagree_one_wins_and_the_other_is_told(
        self, store: TokenStore, again: Open
    ) -> None:
        """One promotes what is pending; the other throws it away and promotes its own."""
        current = bootstrap(store)
        for _ in range(self.race_rounds):
            mine, theirs = new_token(), new_token()
            store.stage(mine)
            other = again()

            def replace(other: TokenStore = other, current: Token = current) -> None:
                other.discard(mine.id)  # noqa: B023  # runs within this round
                rotate_to(other, theirs, replacing=current)  # noqa: B023

            won = race([promoting(again(), mine, current), replace])
            assert won.count("done") == 1, won
            winner = (mine, theirs)[won.index("done")]
            view = again().versions()
            assert facts(view.current) == facts(winner)
            assert facts(view.previous) == facts(current)
            for left in (mine, theirs, current):
                if left != winner:
                    store.discard(left.id)
            current = winner

    def test_of_promote_and_discard_of_one_token_one_wins(
        self, store: TokenStore, again: Open
    ) -> None:
        current = bootstrap(store)
        for _ in range(self.race_rounds):
            token = new_token()
            store.stage(token)
            won = race([promoting(again(), token, current), discarding(again(), token)])
            view = seen(again().versions())
            if won == ["ConflictError", "done"]:
                assert view == seen(Versions(current=current))
                continue
            assert won[0] == "done"
            assert won[1] == "ConflictError" or self.may_both_succeed(store)
            assert view == seen(Versions(current=token, previous=current))
            store.discard(current.id)
            current = token

    def may_both_succeed(self, store: TokenStore) -> bool:
        """A promote and a discard of one token; CURRENT is compared by every store."""
        return store.cas == "detected" or not self.guards_pending

    def test_threads_that_discard_the_same_token_all_succeed(
        self, store: TokenStore, again: Open
    ) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        won = race([discarding(again(), first) for _ in range(self.racers)])
        assert set(won) == {"done"}
        assert seen(again().versions()) == seen(Versions(current=second))

    def test_readers_during_a_rotation_see_the_old_or_the_new_and_nothing_else(
        self, store: TokenStore, again: Open
    ) -> None:
        first, second = bootstrap(store), new_token()
        allowed = [
            seen(Versions(current=first)),
            seen(Versions(first, second)),
            seen(Versions(current=second, previous=first)),
            seen(Versions(current=second)),
        ]
        with watching(again) as views:
            rotate_to(store, second, replacing=first)
            store.discard(first.id)
        assert views
        assert [view for view in views if view not in allowed] == []

    def test_one_handle_serves_many_threads(self, store: TokenStore) -> None:
        current = bootstrap(store)
        tokens = [new_token() for _ in range(self.racers)]

        def live(token: Token) -> str:
            outcome = outcome_of(lambda: store.stage(token))
            assert facts(store.get()) == facts(current)
            return outcome

        with ThreadPoolExecutor(self.racers) as threads:
            won = list(threads.map(live, tokens))
        assert won.count("done") == 1, won
        assert facts(store.versions().pending) == facts(tokens[won.index("done")])

    def test_of_two_processes_that_stage_one_wins_and_both_can_promote_the_winner(
        self, store: TokenStore, place: Any
    ) -> None:
        current = bootstrap(store)
        with contenders(self.ask(self.opener, place), 2) as processes:
            for _ in range(self.race_rounds):
                tokens = [new_token() for _ in processes]
                won = processes.run(*(("stage", {"token": to_record(t)}) for t in tokens))
                assert sorted(won) == ["ConflictError", "done"]
                winner = tokens[won.index("done")]
                assert seen(store.versions()) == seen(Versions(current, winner))
                swap = ("promote", {"token_id": winner.id, "replacing": current.id})
                assert processes.run(swap, swap) == ["done", "done"]
                assert seen(store.versions()) == seen(Versions(current=winner, previous=current))
                forget = ("discard", {"token_id": current.id})
                assert processes.run(forget, forget) == ["done", "done"]
                assert seen(store.versions()) == seen(Versions(current=winner))
                current = winner

    def test_of_two_processes_that_promote_and_discard_one_wins(
        self, store: TokenStore, place: Any
    ) -> None:
        current = bootstrap(store)
        with contenders(self.ask(self.opener, place), 2) as processes:
            for _ in range(self.race_rounds):
                token = new_token()
                store.stage(token)
                won = processes.run(
                    ("promote", {"token_id": token.id, "replacing": current.id}),
                    ("discard", {"token_id": token.id}),
                )
                if won == ["ConflictError", "done"]:
                    assert seen(store.versions()) == seen(Versions(current=current))
                    continue
                assert won[0] == "done"
                assert won[1] == "ConflictError" or self.may_both_succeed(store)
                assert seen(store.versions()) == seen(Versions(current=token, previous=current))
                store.discard(current.id)
                current = token


def staging(store: TokenStore, token: Token) -> Attempt:
    return lambda: store.stage(token)


def promoting(store: TokenStore, token: Token, current: Token) -> Attempt:
    return lambda: store.promote(token.id, replacing=current.id)


def discarding(store: TokenStore, token: Token) -> Attempt:
    return lambda: store.discard(token.id)


def outcome_of(attempt: Attempt) -> str:
    """``done`` or ``ConflictError``; any other error is the test's failure."""
    try:
        attempt()
    except ConflictError as error:
        return type(error).__name__
    return "done"


def race(attempts: list[Attempt]) -> list[str]:
    """Run all at nearly the same moment, one thread each; who begins is chance."""
    gate = threading.Barrier(len(attempts))

    def run(attempt: Attempt) -> str:
        gate.wait(timeout=30)
        time.sleep(random.choice((0, 0.001, 0.005)))  # noqa: S311  # chance, not cryptography
        return outcome_of(attempt)

    with ThreadPoolExecutor(len(attempts)) as threads:
        return list(threads.map(run, attempts))


@contextmanager
def watching(again: Open) -> Iterator[list[dict[str, Any]]]:
    """Every distinct view a reader of its own sees meanwhile."""
    views: list[dict[str, Any]] = []
    store, stop, started = again(), threading.Event(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            view = seen(store.versions())
            if view not in views:
                views.append(view)
            started.set()

    with ThreadPoolExecutor(1) as threads:
        watch = threads.submit(look)
        try:
            started.wait(timeout=30)
            yield views
        finally:
            stop.set()
        watch.result()


class _Contenders:
    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def __iter__(self) -> Iterator[subprocess.Popen[str]]:
        return iter(self._processes)

    def run(self, *commands: tuple[str, dict[str, Any]]) -> list[str]:
        """One command for each process, at the same moment; their outcomes."""
        for process, command in zip(self._processes, commands, strict=True):
            _write(process, json.dumps(command))
        return [_read(process) for process in self._processes]


@contextmanager
def contenders(opener: Callable[[], TokenStore], count: int) -> Iterator[_Contenders]:
    """Processes that have the store open and wait for commands."""
    processes = [_spawn() for _ in range(count)]
    try:
        for process in processes:
            _write(process, base64.b64encode(pickle.dumps(opener)).decode())
        for process in processes:
            assert _read(process) == "ready"
        yield _Contenders(processes)
    finally:
        for process in processes:
            process.communicate(timeout=30)


def _spawn() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cmzon_secrets.testing.contender"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
