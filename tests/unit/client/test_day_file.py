"""DayFile: the day's count outlives the process, and all that share the file keep one limit."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import stat
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.client.day_file import LARGEST_BLOCK, DayFile
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    DailyLimitReached,
    ProviderUnavailable,
)
from unit.client.virtual_time import NOON, Senders, VirtualTime, perform

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "limits.db"


def take(count: DayFile, now: datetime = NOON) -> datetime:
    """One message, as the limits take it."""
    while (day := count.take(now)) is None:
        count.accept(count.fetch(now, 5.0))
    return day


def taken(count: DayFile, now: datetime = NOON, most: int = 10**6) -> int:
    """How many go out until the day is full."""
    for number in range(most):
        try:
            take(count, now)
        except DailyLimitReached:
            return number
    return most


def in_file(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT sent FROM day").fetchone()[0]


def kill(count: DayFile) -> None:
    """As far as the file is concerned, the process is dead: nothing is given back."""
    count._block.forget()
    count.close()


# ── across restarts and processes ───────────────────────────────────────────────────────────────


def test_the_count_outlives_the_limits(path):
    for start in range(3):
        world = Senders(RateLimits(per_day=10, state=path), VirtualTime())
        for _ in range(3):
            world.send()
        world.time.run()
        assert len(world.left) == 3
        assert world.limits.usage(NOON).sent_today == 3 * (start + 1)
        world.limits.close()
    world = Senders(RateLimits(per_day=10, state=path), VirtualTime())
    assert world.limits.usage(NOON).sent_today == 9
    callers = [world.send() for _ in range(3)]
    world.time.run()
    assert len(world.left) == 1
    assert {type(caller.error) for caller in callers[1:]} == {DailyLimitReached}
    assert callers[2].error.resets_at == MIDNIGHT


def test_a_message_is_in_the_file_before_it_may_be_sent(path):
    count = DayFile(10_000, path)
    for number in range(1, 3 * LARGEST_BLOCK):
        take(count)
        assert in_file(path) >= number


def test_a_killed_process_loses_its_block_at_most_and_forgets_nothing(path):
    first = DayFile(10_000, path)
    taken(first, most=LARGEST_BLOCK + 1)
    kill(first)
    assert LARGEST_BLOCK + 1 <= in_file(path) <= 2 * LARGEST_BLOCK


def test_what_was_not_used_is_given_back_at_the_end(path):
    count = DayFile(10_000, path)
    take(count)
    count.close()
    assert in_file(path) == 1


def test_and_where_the_limits_are_simply_dropped(path):
    limits = RateLimits(state=path)
    next(limits.slot(VirtualTime(), ends=9.0, since=0.0)).function()
    assert in_file(path) == LARGEST_BLOCK
    del limits
    gc.collect()
    assert in_file(path) == 0


def test_limits_that_were_closed_go_on_where_they_stopped(path):
    with RateLimits(per_day=3, state=path) as limits:
        world = Senders(limits, VirtualTime())
        world.send()
        world.time.run()
    callers = [world.send() for _ in range(3)]
    world.time.run()
    assert (len(world.left), type(callers[2].error)) == (3, DailyLimitReached)


def test_what_another_process_gave_back_can_be_sent_after_a_moment(path):
    ours, theirs = DayFile(2, path), DayFile(2, path)
    take(ours)
    theirs.accept(theirs.fetch(NOON, 5.0))
    with pytest.raises(DailyLimitReached):
        take(ours)
    theirs.close()
    with pytest.raises(DailyLimitReached):
        take(ours)
    take(ours, NOON + SECOND)


def test_near_the_limit_nobody_keeps_what_another_needs(path):
    one, two = DayFile(1000, path), DayFile(1000, path)
    take(one)
    assert taken(two) >= 1000 - LARGEST_BLOCK
    assert taken(one) == LARGEST_BLOCK - 1


STEP = st.tuples(
    st.sampled_from(["take", "take", "give back", "close", "kill", "fetch in vain", "tomorrow"]),
    st.integers(0, 2),
    st.integers(1, 40),
)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.lists(STEP, max_size=25))
def test_together_they_never_pass_the_limit_and_lose_a_block_for_each_kill(per_day, steps):
    with TemporaryDirectory() as folder:
        path = Path(folder, "limits.db")
        counts, now = [DayFile(per_day, path) for _ in range(3)], NOON
        days: list[list[datetime]] = [[], [], []]
        sent = lost = 0
        for what, who, times in steps:
            count = counts[who]
            now += SECOND
            match what:
                case "take":
                    got = taken(count, now, times)
                    days[who] += [count.ends] * got
                    sent += got
                case "give back" if days[who]:
                    day = days[who].pop()
                    sent -= day == count.ends
                    count.give_back(day)
                case "close":
                    count.close()
                case "kill":
                    count.turn(now)  # a block of yesterday is void already
                    lost += count._block.left
                    kill(count)
                    counts[who] = DayFile(per_day, path)
                    days[who] = []
                case "fetch in vain":
                    count.turn(now)
                    lost += count.fetch(now, 5.0).granted
                case "tomorrow":
                    now += DAY
                    sent = lost = 0
                    days = [[], [], []]
            assert sent <= per_day
        for count in counts[1:]:
            count.turn(now)
            count.close()
        now += SECOND
        assert sent + lost + taken(counts[0], now) == per_day
        kill(counts[0])


def test_what_was_fetched_for_one_who_went_away_serves_the_next(path):
    limits = RateLimits(state=path)
    steps = limits.slot(VirtualTime(), ends=9.0, since=0.0)
    work = next(steps)
    steps.close()
    work.function()  # in its thread, it goes on
    with pytest.raises(StopIteration):
        next(limits.slot(VirtualTime(), ends=9.0, since=0.0))
    assert in_file(path) == LARGEST_BLOCK


def test_threads_share_a_block(path):
    limits = RateLimits(per_second=None, per_day=400, state=path)
    sent, refused = [], []

    def send() -> None:
        for _ in range(75):
            now = time.monotonic()
            try:
                sent.append(perform(limits.slot(SYSTEM_CLOCK, ends=now + 30, since=now)))
            except DailyLimitReached as error:
                refused.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(sent), len(refused)) == (400, 200)


# ── the day, clocks, the API ────────────────────────────────────────────────────────────────────


def test_a_new_day_begins_at_zero_for_all(path):
    one, two = DayFile(50, path), DayFile(50, path)
    assert taken(one) == 50
    assert taken(two) == 0
    assert taken(two, NOON + DAY) == 50
    assert taken(one, NOON + DAY) == 0


def test_what_was_counted_for_yesterday_is_not_given_back_to_today(path):
    one, two = DayFile(50, path), DayFile(50, path)
    yesterday = take(one)
    assert taken(two, NOON + DAY) == 50
    one.give_back(yesterday)
    one.close()
    assert in_file(path) == 50


def test_a_block_of_yesterday_is_void_though_nobody_saw_the_day_end(path):
    one, two = DayFile(100, path), DayFile(100, path)
    one.accept(one.fetch(NOON, 5.0))
    two.heed(Quota(100, 100, MIDNIGHT + DAY), NOON)  # by the API's clock it has
    theirs = taken(two, most=4)
    one.accept(one.fetch(NOON, 5.0))
    two.close()
    assert theirs + taken(one, NOON + SECOND) == 100


def test_a_clock_set_back_over_midnight_does_not_undo_the_count(path):
    count = DayFile(5, path)
    assert taken(count, MIDNIGHT + SECOND) == 5
    count.close()
    assert taken(DayFile(5, path), MIDNIGHT - HOUR) == 0


def test_a_clock_that_was_years_ahead_does_not_block_for_years(path):
    count = DayFile(5, path)
    taken(count, NOON + 9000 * DAY)
    assert taken(DayFile(5, path), NOON) == 5


def test_what_the_api_says_is_written_down_before_anything_else_is_sent(path):
    ours = DayFile(10_000, path)
    take(ours)
    ours.heed(Quota(10_000, 100, NOON + 5 * HOUR), NOON)
    assert taken(ours, most=1) == 1
    kill(ours)
    theirs = DayFile(10_000, path)
    assert 100 - LARGEST_BLOCK <= taken(theirs) <= 100
    assert theirs.ends == NOON + 5 * HOUR


def test_a_day_divided_among_files_is_sent_to_the_last_message(tmp_path):
    parts = [DayFile(250, tmp_path / f"{number}.db") for number in range(4)]
    sent, refused = 0, 0
    while refused < len(parts):
        refused = 0
        for count in parts:
            try:
                take(count)
            except DailyLimitReached:
                refused += 1
                continue
            sent += 1
            count.heed(Quota(1000, 1000 - sent, MIDNIGHT), NOON)
    assert sent == 1000


def test_so_is_that_nothing_is_left(path):
    world = Senders(RateLimits(state=path), VirtualTime())
    world.send()
    world.time.run()
    world.limits.heed(Quota(10_000, 0, MIDNIGHT), NOON)
    refused = world.send()
    world.time.run()
    assert isinstance(refused.error, DailyLimitReached)
    assert in_file(path) == 10_000


def test_what_it_says_costs_no_write_where_it_is_known(path):
    count = DayFile(10_000, path)
    for sent in range(1, LARGEST_BLOCK):
        take(count)
        count.heed(Quota(10_000, 10_000 - sent, MIDNIGHT), NOON)
    assert in_file(path) <= 2 * LARGEST_BLOCK


def test_and_no_message_where_it_says_something_else_with_each_answer(path):
    count, sent = DayFile(1000, path), 0
    for minute in range(1000):
        sent += taken(count, most=1)
        count.heed(Quota(5000 + minute, 5000 + minute - sent, MIDNIGHT + DAY), NOON)
    assert sent == 1000


# ── the file ────────────────────────────────────────────────────────────────────────────────────


def test_it_is_private_durable_and_alone_after_close(path):
    os.umask(umask := os.umask(0))
    with RateLimits(state=path) as limits:
        world = Senders(limits, VirtualTime())
        world.send()
        files = [path, *path.parent.glob("*-wal"), *path.parent.glob("*-shm")]
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        with limits._day._file.reading() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert os.listdir(path.parent) == [path.name]
    assert os.umask(umask) == umask


def not_a_database(path: Path) -> None:
    path.write_text("these are my notes, and nobody may overwrite them\n" * 100)


def anothers_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE day (of_the_week TEXT)")


def a_newer_one(path: Path) -> None:
    DayFile(1, path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("what", "reason", "hint"),
    [
        (not_a_database, "not a database", "another path"),
        (anothers_database, "another program", "another path"),
        (a_newer_one, r"newer version of this package \(format 2\)", "update"),
        (a_folder, "is a directory", "path"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_alone(path, what, reason, hint):
    what(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(
        ConfigurationError, match=f"limits state .*limits.db — .*{reason}"
    ) as caught:
        RateLimits(state=path)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)
    assert os.listdir(path.parent) == [path.name]
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_damaged_file_is_named(path):
    DayFile(1, path).close()
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(0).randbytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        DayFile(1, path)


def test_a_row_that_somebody_else_wrote_is_no_count(path):
    count = DayFile(1, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO day VALUES (1, 'a', 'b', 'many', NULL)")
    for read in (lambda: take(count), lambda: DayFile(1, path)):
        with pytest.raises(ConfigurationError, match="damaged"):
            read()


@pytest.mark.parametrize("wrong", ["", "a\0b", b"x", 7])
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="limits state"):
        RateLimits(state=wrong)


def test_a_folder_that_is_missing_is_not_made(tmp_path):
    with pytest.raises(ConfigurationError, match="no such file or directory") as caught:
        RateLimits(state=tmp_path / "missing" / "limits.db")
    assert "mkdir" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_file_that_another_process_keeps_locked_is_waited_for_within_the_deadline(path):
    count = DayFile(10, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        world = Senders(RateLimits(per_day=10, state=path), VirtualTime(), patience=0.2)
        caller = world.send()
        assert isinstance(caller.error, ProviderUnavailable)
        assert "keeps it locked" in str(caller.error)
        with pytest.raises(CMzonSecretsError, match="locked"):
            count.fetch(NOON, 0.1)
        world.time.run()
        assert world.left == []
        other.execute("ROLLBACK")
    assert taken(count) == 10


def test_a_path_is_kept_where_the_working_folder_changes(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    count = DayFile(10, path.name)
    monkeypatch.chdir("/")
    count.close()
    take(count)
    assert path.exists()
    kill(count)


# ── fork ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_no_connection_crosses_a_fork_and_parent_and_child_keep_one_limit(path):
    count = DayFile(100, path)
    limits = RateLimits(per_day=100, state=path)  # it tells its count of the fork
    limits._day = count
    take(count)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        files = {
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if fd.isdigit() and os.path.lexists(f"/proc/self/fd/{fd}")
        }
        clean = not any(str(path) in file for file in files)
        block = count._block.left
        os.write(writing, bytes([clean, block, taken(count)]))
        os._exit(0)
    os.waitpid(child, 0)
    clean, block, theirs = os.read(reading, 3)
    assert (clean, block) == (True, 0)
    assert theirs + 1 + taken(count, NOON + SECOND) == 100
    kill(count)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_for_what_is_being_written(path):
    count = DayFile(10_000, path)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.002):
            count.fetch(NOON, 5.0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if DayFile(10**6, path).fetch(NOON, 5.0).granted else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        writer.join()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
