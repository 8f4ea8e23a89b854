"""``env:NAME`` as a key."""

import base64

import pytest

from cmzon_secrets.errors import ConfigurationError, InvalidURI
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.environment import EnvironmentKey
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize("value", [KEY, KEY + "\n"])
def test_32_bytes_of_base64_are_a_key(value, monkeypatch):
    monkeypatch.setenv("CMZON_TEST_KEY", value)
    key = open_key("env:CMZON_TEST_KEY")
    assert key.unwrap(key.wrap(bytes(32))) == bytes(32)


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_is_named_with_the_remedy(value, monkeypatch):
    monkeypatch.delenv("CMZON_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("CMZON_TEST_KEY", value)
    with pytest.raises(ConfigurationError, match="CMZON_TEST_KEY is not set") as caught:
        EnvironmentKey("CMZON_TEST_KEY").wrap(bytes(32))
    assert "keygen" in caught.value.hint


def test_a_value_that_is_no_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("CMZON_TEST_KEY", "nearly-a-key-but-not-quite-one-of-them")
    key = EnvironmentKey("CMZON_TEST_KEY")
    error = failure_of(lambda: key.wrap(bytes(32)))
    assert isinstance(error, ConfigurationError)
    must_hide(shown(error), "nearly-a-key-but-not-quite-one-of-them")


def test_a_secret_that_is_a_valid_name_is_not_shown():
    name = "cmz_live_0123456789abcdef"
    key = open_key(f"env:{name}")
    error = failure_of(lambda: key.wrap(bytes(32)))
    assert isinstance(error, ConfigurationError)
    must_hide(shown(error) + error.hint + key.uri, name)


@pytest.mark.parametrize("name", [KEY, "1", "A-B", "A B", "//NAME", "ключ", "A\n"])
def test_a_key_in_the_place_of_a_name_is_refused_and_not_repeated(name):
    error = failure_of(lambda: EnvironmentKey(name))
    assert isinstance(error, InvalidURI)
    assert name not in error.message
