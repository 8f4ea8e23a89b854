"""``keyring:`` passes what every key must pass, with a real Secret Service (GNOME Keyring)."""

import itertools
import json
import subprocess
import sys

import pytest

from cmzon_secrets.sealing_keys.os_keyring import KeyringKey
from cmzon_secrets.testing import KeySuite


@pytest.fixture
def session(secret_service, monkeypatch):
    """This process in that session, with the backend that a fresh process would choose there."""
    keyring = pytest.importorskip("keyring", reason="not run: keyring (package not installed)")
    from keyring.backends import SecretService

    for name in ("DBUS_SESSION_BUS_ADDRESS", "HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, secret_service[name])
    before = keyring.get_keyring()
    keyring.set_keyring(SecretService.Keyring())
    yield secret_service
    keyring.set_keyring(before)


class TestKeyringKey(KeySuite):
    cannot = {
        "denied": "locking this session's keyring asks a person to unlock it",
        "unreachable": "a session without keyring is refused by name",
    }
    services = itertools.count()

    @pytest.fixture
    def new_place(self, session):
        def new():
            service = f"cmzon test {next(self.services)}"
            KeyringKey(service).wrap(bytes(32))  # makes the key
            return service

        return new

    def open(self, place):
        return KeyringKey(place)

    def secrets_of(self, place):
        import keyring

        return [keyring.get_password(place, "cmzon-secrets")]


SEALING = """
import sys
from cmzon_secrets import Token, open_store
with open_store(sys.argv[1]) as store:
    store.stage(Token(f"value-of-{sys.argv[2]}", id=sys.argv[2]))
    store.promote(sys.argv[2], replacing=None)
    print(store.get().id)
"""


def test_a_process_that_knows_nothing_of_us_finds_the_token_again(session, tmp_path):
    uri = f"file:{tmp_path}/token.sealed?key=keyring:whole%20way"
    command = [sys.executable, "-c", SEALING, uri, "tok_1"]
    first = subprocess.run(command, env=session, capture_output=True, text=True, check=True)
    reading = (
        "import sys; from cmzon_secrets import open_store; print(open_store(sys.argv[1]).get().id)"
    )
    second = subprocess.run(
        [sys.executable, "-c", reading, uri],
        env=session,
        capture_output=True,
        text=True,
        check=True,
    )
    assert first.stdout == second.stdout == "tok_1\n"


WRAPPING = """
import json, os, sys
from cmzon_secrets.sealing_keys.os_keyring import KeyringKey
print(json.dumps(KeyringKey("made once").wrap(bytes(32))))
"""


def test_processes_that_seal_for_the_first_time_at_once_make_one_key(session):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racing = [
        subprocess.Popen([sys.executable, "-c", WRAPPING], env=session, **pipes) for _ in range(4)
    ]
    told = [process.communicate() for process in racing]
    if any("disconnected from message bus without replying" in errors for _, errors in told):
        pytest.skip("not run: gnome-keyring (its daemon died when several made a collection)")
    stanzas = [json.loads(stanza) for stanza, _ in told]
    key = KeyringKey("made once")
    assert [key.unwrap(stanza) for stanza in stanzas] == [bytes(32)] * 4
