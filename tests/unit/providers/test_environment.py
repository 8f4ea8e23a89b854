"""``env:NAME`` as a provider."""

import pytest

from cmzon_secrets import open_provider, open_store
from cmzon_secrets.errors import InvalidToken, InvalidURI, ReadOnlyProvider, TokenNotFound
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

VALUE = "cmz_live_0123456789abcdefghijklmnop"


@pytest.fixture
def provider():
    return open_provider("env:CMZON_API_TOKEN")


def test_the_variable_is_the_token(provider, monkeypatch):
    monkeypatch.setenv("CMZON_API_TOKEN", VALUE)
    token = provider.get()
    assert token.reveal() == VALUE
    assert token.id == f"sha256:{token.fingerprint}"


def test_the_variable_is_read_at_each_get(provider, monkeypatch):
    for value in ("one", "two"):
        monkeypatch.setenv("CMZON_API_TOKEN", value)
        assert provider.get().reveal() == value


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_or_empty_variable_is_token_not_found_and_named(value, provider, monkeypatch):
    monkeypatch.delenv("CMZON_API_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("CMZON_API_TOKEN", value)
    with pytest.raises(TokenNotFound, match="CMZON_API_TOKEN is not set") as caught:
        provider.get()
    assert caught.value.uri == "env:CMZON_API_TOKEN"


@pytest.mark.parametrize("value", [f"{VALUE}\n", f" {VALUE}", f"{VALUE}\r\nX: y", "é" * 30])
def test_what_is_no_token_is_invalid_and_not_shown(value, provider, monkeypatch):
    monkeypatch.setenv("CMZON_API_TOKEN", value)
    error = failure_of(provider.get)
    assert isinstance(error, InvalidToken)
    assert error.message.startswith("env:CMZON_API_TOKEN — it contains")
    must_hide(shown(error), VALUE, value.strip())


def test_it_cannot_be_written():
    with pytest.raises(ReadOnlyProvider):
        open_store("env:CMZON_API_TOKEN")


@pytest.mark.parametrize("name", ["cmz-live.secret~token", "A=B", "//NAME", "1", "A B"])
def test_a_token_in_the_place_of_a_name_is_refused_and_not_repeated(name):
    error = failure_of(lambda: open_provider(f"env:{name}"))
    assert isinstance(error, InvalidURI)
    assert name not in error.message


def test_a_token_that_is_a_valid_name_is_not_shown():
    error = failure_of(open_provider("env:cmz_live_0123456789abcdef").get)
    assert isinstance(error, TokenNotFound)
    must_hide(shown(error) + error.uri + error.hint, "cmz_live_0123456789abcdef")


def test_a_lower_case_name_is_read_all_the_same(monkeypatch):
    monkeypatch.setenv("my_token", VALUE)
    assert open_provider("env:my_token").get().reveal() == VALUE


def test_options_are_refused():
    with pytest.raises(InvalidURI, match="unknown option"):
        open_provider("env:NAME?region=x")
