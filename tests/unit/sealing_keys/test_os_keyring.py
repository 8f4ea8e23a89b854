"""``keyring:``: which keyrings are refused, and how their failures are told.

The good case, with a real GNOME Keyring, is in tests/conformance/test_os_keyring.py.
"""

import base64
import sys

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
)
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.os_keyring import KeyringKey
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

keyring = pytest.importorskip("keyring", reason="not run: keyring (package not installed)")

from keyring.backend import KeyringBackend  # noqa: E402
from keyring.backends import chainer, fail, null  # noqa: E402
from keyring.errors import KeyringLocked, PasswordSetError  # noqa: E402

KEY = base64.b64encode(b"k" * 32).decode()


class Vault(KeyringBackend):
    """A keyring that does what each test wants of it."""

    priority = 0  # never chosen by itself

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer
        self.asked = []

    def get_password(self, service, username):
        self.asked.append((service, username))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def set_password(self, service, username, password):
        if self.answer is not None:
            raise PasswordSetError
        self.answer = password


class Plaintext(Vault):
    __module__ = "keyrings.alt.file"


class Chain(chainer.ChainerBackend):
    backends = ()

    def __init__(self, *backends):
        self.backends = backends


@pytest.fixture
def using(monkeypatch, tmp_path):
    """``using(backend)``: what this machine's keyring is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    before = keyring.get_keyring()

    def use(backend):
        keyring.set_keyring(backend)
        return backend

    yield use
    keyring.set_keyring(before)


UNSAFE = {
    "none at all": fail.Keyring,
    "one that forgets": null.Keyring,
    "one in clear text": Plaintext,
    "a chain with an unsafe link": lambda: Chain(Vault(KEY), Plaintext()),
}


@pytest.mark.parametrize("make", UNSAFE.values(), ids=UNSAFE)
@pytest.mark.parametrize("verb", ["wrap", "unwrap"])
def test_a_keyring_that_protects_nothing_is_refused_by_name(make, verb, using):
    using(make())
    key = open_key("keyring:cmzon")
    argument = bytes(32) if verb == "wrap" else {"wrap": "A256KW", "wrapped": "AAAA"}
    error = failure_of(lambda: getattr(key, verb)(argument))
    assert isinstance(error, ConfigurationError)
    assert "does not protect" in error.message
    assert "keyfile:PATH" in error.hint


def test_of_a_safe_chain_the_first_is_used_and_never_silently_the_second(using):
    first, second = Vault(), Vault(KEY)
    using(Chain(first, second))
    KeyringKey("cmzon").wrap(bytes(32))
    assert first.answer is not None
    assert second.asked == []


def test_wrapping_makes_the_key_once_under_our_user_name(using):
    vault = using(Vault())
    key = KeyringKey("cmzon")
    stanza = key.wrap(bytes(32))
    made = vault.answer
    assert len(base64.b64decode(made)) == 32
    assert key.unwrap(key.wrap(bytes(32))) == KeyringKey("cmzon").unwrap(stanza) == bytes(32)
    assert vault.answer == made
    assert set(vault.asked) == {("cmzon", "cmzon-secrets")}


def test_unwrapping_never_makes_a_key(using):
    stanza = wrapped_with(using(Vault(KEY)))
    vault = using(Vault())
    with pytest.raises(ConfigurationError, match="no key of this name"):
        KeyringKey("cmzon").unwrap(stanza)
    assert vault.answer is None


FAILURES = {
    "locked": (KeyringLocked("no"), AccessDenied),
    "broken": (PasswordSetError("no"), ProviderUnavailable),
    "its bus gone": (ConnectionResetError("no"), ProviderUnavailable),
    "a bug of its own": (AttributeError("no"), ProviderUnavailable),
}


@pytest.mark.parametrize(("failure", "kind"), FAILURES.values(), ids=FAILURES)
def test_failures_of_the_keyring_are_ours(failure, kind, using):
    stanza = wrapped_with(using(Vault(KEY)))
    using(Vault(failure))
    key = KeyringKey("cmzon")
    for verb in (lambda: key.wrap(bytes(32)), lambda: key.unwrap(stanza)):
        error = failure_of(verb)
        assert isinstance(error, kind)
        assert error.uri == "keyring:cmzon"


def test_a_stranger_under_that_name_is_refused_and_not_shown(using):
    using(Vault("somebody-else's-password-entry"))
    key = KeyringKey("cmzon")
    error = failure_of(lambda: key.wrap(bytes(32)))
    assert isinstance(error, ConfigurationError)
    must_hide(shown(error), "somebody-else's-password-entry")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    error = failure_of(lambda: open_key("keyring:cmzon"))
    assert isinstance(error, CMzonSecretsError)
    assert error.hint == 'pip install "cmzon-secrets[keyring]"'


def wrapped_with(vault):
    return KeyringKey("cmzon").wrap(bytes(32))
