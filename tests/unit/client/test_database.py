"""A file that several make at once: whoever comes between two looks of another changes nothing."""

import sqlite3

import pytest

from cmzon_secrets.client.database import Database, Format

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
