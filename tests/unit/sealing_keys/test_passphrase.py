"""``passphrase:``: where it comes from, what it costs, and what a hostile header may ask for."""

import json
import os
import pty
import subprocess
import sys
import threading
import unicodedata

import pytest
from cryptography.hazmat.primitives.kdf import scrypt

from cmzon_secrets.errors import InvalidURI, SealBroken
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.passphrase import (
    CHEAPEST,
    RECOMMENDED,
    VARIABLE,
    PassphraseKey,
    ScryptProfile,
)
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

DATA_KEY = bytes(range(32))
PASSPHRASE = "correct horse battery staple, and then some"


@pytest.fixture(autouse=True)
def passphrase(monkeypatch):
    monkeypatch.setenv(VARIABLE, PASSPHRASE)


@pytest.fixture
def derivations(monkeypatch):
    """Every derivation that really runs, as (n, r, p)."""
    ran = []
    real = scrypt.Scrypt

    def counting(**arguments):
        ran.append((arguments["n"], arguments["r"], arguments["p"]))
        return real(**arguments)

    monkeypatch.setattr(scrypt, "Scrypt", counting)
    return ran


def new_key():
    return PassphraseKey(profile=CHEAPEST)


def test_what_is_sealed_anew_uses_the_recommended_profile(derivations):
    stanza = open_key("passphrase:").wrap(DATA_KEY)
    assert (stanza["n"], stanza["r"], stanza["p"]) == (2**17, 8, 1)
    assert derivations == [(RECOMMENDED.n, RECOMMENDED.r, RECOMMENDED.p)]
    assert PassphraseKey().unwrap(stanza) == DATA_KEY


def test_two_keys_draw_two_salts():
    assert new_key().wrap(DATA_KEY)["salt"] != new_key().wrap(DATA_KEY)["salt"]


def test_reading_and_rewriting_again_and_again_costs_one_derivation(derivations):
    stanza = new_key().wrap(DATA_KEY)
    derivations.clear()
    key = PassphraseKey()
    for _ in range(10):
        assert key.unwrap(stanza) == DATA_KEY
        stanza = key.wrap(DATA_KEY)
    assert len(derivations) == 1


def test_a_rewrite_keeps_the_salt_so_that_readers_need_no_new_derivation():
    stanza = new_key().wrap(DATA_KEY)
    key = PassphraseKey()
    key.unwrap(stanza)
    rewritten = key.wrap(DATA_KEY)
    assert (rewritten["salt"], rewritten["n"]) == (stanza["salt"], stanza["n"])


def test_threads_that_read_at_once_derive_once(derivations):
    stanza = new_key().wrap(DATA_KEY)
    derivations.clear()
    key = PassphraseKey()
    threads = [threading.Thread(target=key.unwrap, args=(stanza,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(derivations) == 1


def test_a_wrong_passphrase_is_seal_broken_and_not_remembered(monkeypatch):
    stanza = new_key().wrap(DATA_KEY)
    key = new_key()
    monkeypatch.setenv(VARIABLE, "a wrong one")
    with pytest.raises(SealBroken):
        key.unwrap(stanza)
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    assert key.unwrap(stanza) == DATA_KEY


def test_close_forgets_what_was_derived(derivations):
    key = new_key()
    stanza = key.wrap(DATA_KEY)
    key.close()
    assert key.unwrap(stanza) == DATA_KEY
    assert len(derivations) == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_same_letters_are_the_same_passphrase_on_every_keyboard(form, monkeypatch):
    monkeypatch.setenv(VARIABLE, "déjà vu Ångström")
    stanza = new_key().wrap(DATA_KEY)
    monkeypatch.setenv(VARIABLE, unicodedata.normalize(form, "déjà vu Ångström"))
    assert new_key().unwrap(stanza) == DATA_KEY


def test_bytes_that_are_no_text_are_a_passphrase_too(monkeypatch):
    monkeypatch.setitem(os.environ, VARIABLE, b"\xff\xfe-raw".decode("utf-8", "surrogateescape"))
    assert new_key().unwrap(new_key().wrap(DATA_KEY)) == DATA_KEY


HOSTILE = {
    "n over the bound": {"n": 2**21},
    "n no power of two": {"n": 100_000},
    "n = 1": {"n": 1},
    "n negative": {"n": -(2**17)},
    "n as text": {"n": "131072"},
    "n true": {"n": True},
    "n astronomical": {"n": 2**4000},
    "r over the bound": {"r": 17},
    "r = 0": {"r": 0},
    "p over the bound": {"p": 5},
    "p = 0": {"p": 0},
    "2 GiB": {"n": 2**20, "r": 16},
    "another kdf": {"kdf": "md5"},
    "a short salt": {"salt": "AAAA"},
    "a salt that is no base64": {"salt": "!" * 24},
    "a salt that is a number": {"salt": 7},
    "a member more": {"more": 1},
}


@pytest.mark.parametrize("altered", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_stanza_is_seal_broken_before_anything_is_derived(altered, derivations):
    stanza = {**new_key().wrap(DATA_KEY), **altered}
    derivations.clear()
    with pytest.raises(SealBroken):
        PassphraseKey().unwrap(stanza)
    assert derivations == []


def test_the_dearest_header_accepted_needs_one_gibibyte():
    assert ScryptProfile(2**20, 8, 1).acceptable
    assert ScryptProfile(2**18, 8, 4).acceptable
    assert not ScryptProfile(2**20, 8, 2).acceptable
    assert ScryptProfile(2**19, 16, 1).acceptable
    assert not ScryptProfile(2**20, 9, 1).acceptable


@pytest.mark.parametrize("uri", ["passphrase:secret", "passphrase://secret"])
def test_a_passphrase_in_the_uri_is_refused_and_not_repeated(uri):
    error = failure_of(lambda: open_key(uri))
    assert isinstance(error, InvalidURI)
    assert "secret" not in error.message.replace("cmzon-secrets", "")


def test_no_failure_shows_the_passphrase(monkeypatch):
    stanza, key = new_key().wrap(DATA_KEY), new_key()
    monkeypatch.setenv(VARIABLE, "the wrong passphrase, which is a secret just as well")
    error = failure_of(lambda: key.unwrap(stanza))
    assert isinstance(error, SealBroken)
    must_hide(shown(error), "the wrong passphrase, which is a secret just as well")


@pytest.mark.parametrize("verb", ["wrap", "unwrap"])
def test_whatever_goes_wrong_during_a_derivation_shows_no_passphrase(verb, monkeypatch):
    argument = DATA_KEY if verb == "wrap" else new_key().wrap(DATA_KEY)

    def failing(**arguments):
        raise ArithmeticError("anything at all")

    monkeypatch.setattr(scrypt, "Scrypt", failing)
    key = new_key()
    must_hide(shown(failure_of(lambda: getattr(key, verb)(argument))), PASSPHRASE)


def test_a_derived_key_is_not_found_by_looking_at_the_object(derivations):
    key = new_key()
    key.wrap(DATA_KEY)
    derived = next(iter(key._proved.values()))()
    must_hide(repr(vars(key)) + repr(key), repr(derived)[2:-1], derived.hex())


FORKING = """
import json, os, sys
from cmzon_secrets.sealing_keys.passphrase import PassphraseKey
stanza, key = json.loads(sys.argv[1]), PassphraseKey()
with key._deriving:  # as if a thread of the parent were at it
    child = os.fork()
    if child == 0:
        os._exit(0 if key.unwrap(stanza) == bytes(range(32)) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_while_another_thread_derives_is_not_blocked():
    stanza = json.dumps(dict(new_key().wrap(DATA_KEY)))
    subprocess.run([sys.executable, "-c", FORKING, stanza], check=True, timeout=60)


# the prompt, on a real terminal

TYPING = """
import json, sys
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.sealing_keys.passphrase import CHEAPEST, PassphraseKey
key = PassphraseKey(profile=CHEAPEST)
try:
    stanza = json.loads(sys.argv[1])
    print("opened", key.unwrap(stanza) == bytes(range(32)) if stanza else len(key.wrap(bytes(32))))
except CMzonSecretsError as error:
    print(type(error).__name__, error.message, error.hint)
"""


TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


def on_a_terminal(program, argument, *lines):
    """Run it with a new terminal as its own and type the lines; all that the terminal showed."""
    terminal, end = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    command = [sys.executable, "-c", TAKE_TERMINAL + program, argument]
    with subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True
    ) as child:
        os.close(end)
        screen, waiting = b"", list(lines)
        while chunk := read_terminal(terminal):
            screen += chunk
            if waiting and screen.rstrip().endswith(b":"):
                os.write(terminal, waiting.pop(0) + b"\n")
                screen += b"<typed>"
        os.close(terminal)
    assert child.returncode == 0, screen
    return screen.decode()


def read_terminal(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_opening_asks_once_and_does_not_echo():
    stanza = json.dumps(dict(new_key().wrap(DATA_KEY)))
    screen = on_a_terminal(TYPING, stanza, PASSPHRASE.encode())
    assert "opened True" in screen
    assert screen.count("assphrase:") == 1
    assert PASSPHRASE not in screen


def test_sealing_anew_asks_twice():
    screen = on_a_terminal(TYPING, "null", b"hidden", b"hidden")
    assert "opened 6" in screen
    assert "New passphrase" in screen
    assert "again" in screen
    assert "hidden" not in screen


def test_two_different_entries_are_refused():
    screen = on_a_terminal(TYPING, "null", b"hidden", b"other")
    assert "ConfigurationError" in screen
    assert "differ" in screen


def test_an_empty_entry_is_refused():
    assert "none was typed" in on_a_terminal(TYPING, "null", b"")


def test_without_a_terminal_the_remedy_is_named():
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", TYPING, "null"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
    )
    assert "ConfigurationError" in done.stdout
    assert VARIABLE in done.stdout
    assert done.stderr == ""
