"""A file that several make at once: whoever comes between two looks of another changes nothing. And
what another user of the machine made is not used."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from cmzon_secrets.client.database import Database, Format
from cmzon_secrets.errors import AccessDenied

FORM = Format("test file", application_id=7, version=1, schema=("CREATE TABLE things (name TEXT)",))


@pytest.mark.parametrize("moment", range(1, 11))
def test_whenever_another_makes_the_file_meanwhile_it_is_the_same_file(
    tmp_path, monkeypatch, moment
):
    path, connect = tmp_path / "shared.db", sqlite3.connect
    others = []

    class Interrupted(sqlite3.Connection):
        statements = 0

        def execute(self, *statement):
            self.statements += 1
            if self.statements == moment and not self.in_transaction:
                monkeypatch.setattr(sqlite3, "connect", connect)
                others.append(Database(path, FORM))
            return super().execute(*statement)

    def interrupted(*args, **options):
        return connect(*args, factory=Interrupted, **options)

    monkeypatch.setattr(sqlite3, "connect", interrupted)
    mine = Database(path, FORM)
    with mine.writing() as connection:
        connection.execute("INSERT INTO things VALUES ('mine')")
    for other in [*others, mine]:
        with other.reading() as connection:
            assert connection.execute("SELECT name FROM things").fetchall() == [("mine",)]
        other.close()


MESSAGES = Format(
    "messages", application_id=8, version=1, schema=("CREATE TABLE m (t)",), personal=True
)
SOMEBODY_ELSE = 40001
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.csv.outbox"
    Database(path, MESSAGES).close()
    return path


@only_root
@pytest.mark.parametrize("form", [FORM, MESSAGES])
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_one_that_another_user_made_is_refused(tmp_path, form, mode):
    """Its name can be guessed: who made it would read our messages, and have his sent with our token."""
    path = tmp_path / "made by another"
    Database(path, form).close()
    path.chmod(mode)
    os.chown(path, SOMEBODY_ELSE, -1)
    with pytest.raises(AccessDenied, match=f"another user .uid {SOMEBODY_ELSE}") as refused:
        Database(path, form)
    assert "another path" in refused.value.hint


@only_root
def test_a_link_that_another_user_made_is_refused_wherever_it_leads(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    Database(link, MESSAGES).close()
    os.lchown(link, SOMEBODY_ELSE, -1)
    with pytest.raises(AccessDenied, match="link belongs to another user"):
        Database(link, MESSAGES)


@only_root
@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
def test_what_another_user_put_beside_it_is_refused_and_not_touched(path, ending):
    """What we wrote would go into his log, and what stands in his journal into our file."""
    beside = path.with_name(path.name + ending)
    beside.write_bytes(b"his")
    beside.chmod(0o666)
    os.chown(beside, SOMEBODY_ELSE, -1)
    with pytest.raises(AccessDenied, match=f"{ending} belongs to another user"):
        Database(path, MESSAGES)
    assert beside.read_bytes() == b"his"


@pytest.fixture
def folder_of_another():
    """A folder of a user who is not root, whom we are for the while."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, SOMEBODY_ELSE + 1, -1)
        os.seteuid(SOMEBODY_ELSE + 1)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


@only_root
def test_a_log_that_is_slipped_in_while_it_is_opened_is_refused_before_anything_is_written(
    folder_of_another, monkeypatch
):
    path, connect = folder_of_another / "m.csv.outbox", sqlite3.connect
    his = folder_of_another / "his"
    his.touch(mode=0o666)
    his.chmod(0o666)
    os.seteuid(0)
    os.chown(his, SOMEBODY_ELSE, -1)
    os.seteuid(SOMEBODY_ELSE + 1)

    def slipped_in(*args, **options):
        his.rename(path.with_name(path.name + "-wal"))
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", slipped_in)
    with pytest.raises(AccessDenied, match="-wal belongs to another user"):
        Database(path, MESSAGES)


@only_root
def test_roots_may_be_given_to_a_group_whose_members_make_what_lies_beside_it(path):
    path.chmod(0o660)
    for ending in ("-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        beside.touch(mode=0o660)
        os.chown(beside, SOMEBODY_ELSE, -1)
    with Database(path, MESSAGES).reading() as connection:
        assert connection.execute("SELECT * FROM m").fetchall() == []
