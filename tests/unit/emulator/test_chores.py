"""What the server does ten times a second besides answering: nothing may end it."""

import time

import pytest

from cmzon_secrets.emulator import Emulator


@pytest.fixture
def emulator():
    with Emulator() as running:
        yield running


def until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def queued(emulator):
    async def asked(account):
        return len(account.journal._queue)

    return emulator._await(asked)


def failing(emulator, monkeypatch, what, method):
    def fail(*_):
        raise OverflowError("timestamp out of range")

    async def spoil(account):
        monkeypatch.setattr(getattr(account, what), method, fail)

    emulator._await(spoil)


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_what_is_queued_is_written_though_expiries_cannot_be_noted(api, monkeypatch, caplog):
    failing(api.emulator, monkeypatch, "usage", "notice_expiries")
    until(lambda: errors(caplog))
    for _ in range(3):
        api.send()
        until(lambda: queued(api.emulator) == 0)
    assert errors(caplog) == [
        "the emulator's expired tokens could not be noted: timestamp out of range"
    ]


def test_expiries_are_noted_though_nothing_can_be_written_and_each_trouble_is_told_once(
    api, monkeypatch, caplog
):
    token = api.issue(expires_in=60)
    failing(api.emulator, monkeypatch, "journal", "write")
    until(lambda: errors(caplog))

    async def let_time_pass(account):
        account.clock.advance(61)
        return account.changes.version

    before = api.emulator._await(let_time_pass)

    async def version(account):
        return account.changes.version

    until(lambda: api.emulator._await(version) != before)
    monkeypatch.undo()
    until(lambda: queued(api.emulator) == 0)
    failing(api.emulator, monkeypatch, "journal", "write")
    until(lambda: len(errors(caplog)) == 2)
    monkeypatch.undo()
    assert (
        errors(caplog) == ["the emulator's state could not be written: timestamp out of range"] * 2
    )
    told = api.http.get("/_emulator/audit.jsonl", params={"token": token["id"]}).text
    assert '"expired"' in told
