"""Putting messages in, looking at them, forgetting them: without a client, a token or a network."""

import logging
import multiprocessing
import os
import sqlite3
import stat
import threading
import traceback
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.client.outbox import Outbox, State
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    RequestRejected,
)

TO, OTHER = "+12025550101", "+12025550102"


def pending(path):
    """What another process would find."""
    with Outbox(path) as outbox:
        return outbox.status()["pending"]


def test_what_was_put_in_is_there_for_the_next_who_opens_the_file(outbox, path):
    outbox.put(TO, "Hello")
    assert pending(path) == 1


def test_the_file_is_private_from_birth_whatever_the_umask(path):
    before = os.umask(0)
    try:
        with Outbox(path) as outbox:
            outbox.put(TO, "Hello")
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_a_key_is_made_where_none_is_given(outbox):
    assert outbox.put(TO, "Hello") != outbox.put(TO, "Hello")
    assert outbox.status()["pending"] == 2


def test_the_same_key_with_the_same_message_is_the_same_message(outbox):
    assert outbox.put(TO, "Hello", key="order-1") == "order-1"
    assert outbox.put(TO, "Hello", key="order-1") == "order-1"
    assert outbox.put_many([(TO, "Hello", "order-1"), (TO, "Bye", "order-2")]) == 1
    assert outbox.status()["pending"] == 2


@pytest.mark.parametrize(("to", "text"), [(OTHER, "Hello"), (TO, "Bye")])
def test_the_same_key_with_another_message_is_refused_by_its_name(outbox, to, text):
    outbox.put(TO, "Hello", key="order-1")
    with pytest.raises(RequestRejected, match="order-1") as refused:
        outbox.put_many([(OTHER, "a new one"), (to, text, "order-1")])
    assert outbox.status()["pending"] == 1  # nor is the new one there
    assert to not in str(refused.value)


BAD = {
    "number": ("12025550101", "Hello"),
    "empty text": (TO, ""),
    "long text": (TO, "x" * 4097),
    "lone surrogate": (TO, "\ud800"),
    "key with a space": (TO, "Hello", "order 1"),
    "naive time": (TO, "Hello", None, datetime(2030, 1, 1)),  # noqa: DTZ001
    "no time": (TO, "Hello", None, "tomorrow"),
    "not a number": (TO, "Hello", None, float("nan")),
    "beyond all years": (TO, "Hello", None, 1e15),
    "too few": (TO,),
    "a list": [TO, "Hello"],
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
def test_what_cannot_be_sent_never_gets_in_nor_anything_with_it(outbox, message):
    with pytest.raises(RequestRejected, match=r"^message 1: "):
        outbox.put_many([(TO, "good"), message])
    assert outbox.status()["pending"] == 0


def test_a_priority_must_be_a_number(outbox):
    with pytest.raises(RequestRejected, match="priority"):
        outbox.put(TO, "Hello", priority="high")
    with pytest.raises(RequestRejected, match="priority"):
        outbox.put(TO, "Hello", priority=10**30)


@pytest.mark.parametrize(
    "not_before",
    [
        lambda: timedelta(hours=1),
        lambda: 3600,
        lambda: datetime.now(UTC) + timedelta(hours=1),
    ],
    ids=["timedelta", "seconds", "datetime"],
)
def test_not_before_is_a_time_or_from_now(outbox, not_before):
    outbox.put(TO, "Hello", not_before=not_before())
    (record,) = outbox._store.look(State.PENDING)
    assert timedelta(minutes=59) < record.due - datetime.now(UTC) <= timedelta(hours=1)


def test_an_iterable_that_breaks_leaves_nothing_behind(outbox):
    def broken():
        yield (TO, "Hello")
        raise OSError("the disk it reads from")

    with pytest.raises(OSError, match="reads from"):
        outbox.put_many(broken())
    assert outbox.status()["pending"] == 0


def test_neither_a_number_nor_a_text_is_shown_or_logged(outbox, caplog):
    caplog.set_level(logging.DEBUG)
    outbox.put(TO, "a secret text", key="order-1")
    shown = [repr(outbox), repr(outbox._store.look(State.PENDING)), caplog.text]
    for call in (
        lambda: outbox.put(TO, "a secret text" * 400),
        lambda: outbox.put(TO, "another secret text", key="order-1"),
    ):
        with pytest.raises(RequestRejected) as refused:
            call()
        told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        ours = [line for line in told.format() if "test_putting_in.py" not in line]
        shown += ours
    assert not [text for text in shown if TO in text or "secret text" in text]


def test_all_threads_may_put_at_once(outbox):
    def put():
        for _ in range(20):
            outbox.put(TO, "Hello")

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.status()["pending"] == 160


def test_a_forked_child_uses_a_connection_of_its_own(outbox, path):
    outbox.put(TO, "before")
    child = multiprocessing.get_context("fork").Process(target=outbox.put, args=(TO, "the child's"))
    child.start()
    outbox.put(TO, "the parent's")
    child.join()
    assert child.exitcode == 0
    assert pending(path) == 3
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_messages_are_forgotten_by_key_or_by_state(outbox):
    outbox.put_many([(TO, "Hello", key) for key in "abc"])
    assert outbox.drop("a", "no-such-key") == 1
    assert outbox.drop(state="pending") == 2
    assert outbox.status() == {"pending": 0, "sent": 0, "unknown": 0, "dead": 0}


def test_nothing_is_chosen_by_default(outbox):
    outbox.put(TO, "Hello")
    for change in (outbox.retry, outbox.drop):
        with pytest.raises(ConfigurationError, match="which messages"):
            change()
        with pytest.raises(ConfigurationError, match="valid: pending"):
            change(state="lost")
    assert outbox.status()["pending"] == 1


def test_without_a_client_nothing_can_be_sent(outbox):
    with pytest.raises(ConfigurationError, match="no client"):
        outbox.run()


def test_the_outbox_has_a_number_of_its_own(outbox, path, tmp_path):
    with Outbox(path) as again, Outbox(tmp_path / "another") as another:
        assert outbox.id == again.id != another.id
        assert len(bytes.fromhex(outbox.id)) == 16


# ── files that cannot be used ───────────────────────────────────────────────────────────────────


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no such file") as refused:
        Outbox(tmp_path / "nowhere" / "messages.outbox")
    assert "folder" in refused.value.hint


def test_a_file_that_is_no_database_is_left_alone(path):
    path.write_text("to,text\n" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        Outbox(path)
    assert path.read_text() == "to,text\n" * 100


def test_the_database_of_another_program_is_left_alone(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()
    with pytest.raises(ConfigurationError, match="another program"):
        Outbox(path)


def test_an_outbox_of_a_newer_version_is_refused(outbox, path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Outbox(path)


def removed(path):
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def replaced(path):
    with Outbox(path.with_name("another")):
        pass
    removed(path)
    path.with_name("another").rename(path)


@pytest.mark.parametrize("lost", [removed, replaced])
def test_nothing_is_put_into_a_file_that_is_gone(outbox, path, lost):
    outbox.put(TO, "before")
    lost(path)
    with pytest.raises(ProviderUnavailable, match="removed or replaced") as gone:
        outbox.put(TO, "Hello")
    assert gone.value.retryable
    outbox.put(TO, "Hello")
    assert pending(path) == 1


def test_a_file_that_goes_away_in_the_midst_of_it_is_noticed(outbox, path):
    database = outbox._store._database
    with pytest.raises(ProviderUnavailable, match="removed or replaced"), database.writing():
        path.unlink()
    outbox.put(TO, "Hello")
    assert pending(path) == 1


def test_a_second_outbox_in_a_process_takes_no_lock_from_the_first(outbox, path):
    """Without them, who closes last elsewhere removes the log that the first goes on writing."""
    outbox.put(TO, "before")
    with Outbox(path), multiprocessing.get_context("spawn").Pool(1) as elsewhere:
        assert elsewhere.apply(pending, (path,)) == 1
        outbox.put(TO, "after")
        assert elsewhere.apply(pending, (path,)) == 2


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_one_that_other_users_may_open_is_refused(path, mode):
    with Outbox(path) as outbox:
        outbox.put(TO, "Hello")
    path.chmod(mode)
    with pytest.raises(AccessDenied, match="open to other users") as refused:
        Outbox(path)
    assert "chmod" in refused.value.hint
    path.chmod(0o660)  # a group is its owner's to choose
    assert pending(path) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="not run: root may write everywhere")
def test_a_folder_that_may_not_be_written_is_denied(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AccessDenied):
        Outbox(tmp_path / "messages.outbox")


def test_on_a_full_disk_nothing_is_half_done(outbox):
    outbox.put(TO, "before")
    with outbox._store._database.reading() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ProviderUnavailable, match="no space left") as full:
        outbox.put_many([(TO, "x" * 4000)] * 100)
    assert full.value.retryable
    assert outbox.status()["pending"] == 1


@pytest.mark.slow
def test_a_file_that_stays_locked_is_told_after_a_while(outbox, path):
    with sqlite3.connect(path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(CMzonSecretsError, match="locked") as locked:
            outbox.put(TO, "Hello")
        db.execute("ROLLBACK")
    db.close()
    assert locked.value.retryable
    outbox.put(TO, "Hello")
