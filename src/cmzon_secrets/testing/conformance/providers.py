"""ProviderSuite: everything a read-only TokenProvider promises. Stores pass StoreSuite instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    InvalidToken,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import new_token
from cmzon_secrets.testing.conformance.suite import Suite
from cmzon_secrets.tokens import MAX_TOKEN_BYTES, Token

__all__ = ["ProviderSuite"]

Open = Callable[[], TokenProvider]


class ProviderSuite(Suite):
    """Subclass it as ``Test…`` with a fixture ``new_place`` and the methods ``open`` and ``put``.

    A *place* is what finds one token: a variable's name, a file. Hooks: ``denied``,
    ``unreachable``; excuse in ``cannot`` what there is not.
    """

    @pytest.fixture
    def new_place(self) -> Callable[[], Any]:
        """A function that makes a place without a token at each call."""
        raise NotImplementedError("override the fixture new_place")

    def open(self, place: Any) -> TokenProvider:
        """A fresh handle on the place."""
        raise NotImplementedError("override open(place)")

    def put(self, place: Any, text: str) -> None:
        """Make ``text`` what is stored there, by the backend's own means."""
        raise NotImplementedError("override put(place, text)")

    def denied(self, place: Any) -> TokenProvider:
        """A handle that the backend refuses."""
        raise NotImplementedError

    def unreachable(self, place: Any) -> TokenProvider:
        """A handle whose backend does not answer."""
        raise NotImplementedError

    @pytest.fixture
    def place(self, new_place: Callable[[], Any]) -> Any:
        """A place without a token."""
        return new_place()

    @pytest.fixture
    def again(self, place: Any) -> Iterator[Open]:
        """Opens the place once more; closed when the test ends."""
        with ExitStack() as handles:
            yield lambda: handles.enter_context(self.open(place))

    @pytest.fixture
    def provider(self, again: Open) -> TokenProvider:
        """A handle on the place."""
        return again()

    def test_it_is_no_store(self, provider: TokenProvider) -> None:
        assert not isinstance(provider, TokenStore)

    def test_an_empty_place_is_token_not_found(self, provider: TokenProvider) -> None:
        error = failure_of(provider.get)
        assert isinstance(error, TokenNotFound)
        assert error.uri == provider.uri
        assert error.message.isprintable()

    @pytest.mark.parametrize(
        "value",
        ["x", "-._~+/==", "a" * MAX_TOKEN_BYTES],
        ids=["one character", "punctuation", "the longest"],
    )
    def test_a_value_is_read_as_it_was_put(
        self, value: str, place: Any, provider: TokenProvider, again: Open
    ) -> None:
        self.put(place, value)
        assert provider.get() == again().get() == Token(value)

    def test_every_get_reads_anew(self, place: Any, provider: TokenProvider) -> None:
        for _ in range(3):
            token = new_token()
            self.put(place, token.reveal())
            assert provider.get() == token

    @pytest.mark.parametrize("tail", ["\n", "\r\nX-Injected: 1", " and a space", "ключ", '{"a":1}'])
    def test_text_that_is_no_token_is_refused_unseen(
        self, tail: str, place: Any, provider: TokenProvider
    ) -> None:
        secret = new_token()
        self.put(place, secret.reveal() + tail)
        error = failure_of(provider.get)
        assert isinstance(error, InvalidToken), type(error).__name__
        assert error.message.isprintable()
        must_hide(shown(error), secret)

    def test_a_refusal_is_access_denied(self, place: Any) -> None:
        self.fails_as(AccessDenied, self.denied, place)

    def test_no_answer_is_provider_unavailable(self, place: Any) -> None:
        self.fails_as(ProviderUnavailable, self.unreachable, place)

    def fails_as(
        self, kind: type[ProviderError], hook: Callable[[Any], TokenProvider], place: Any
    ) -> None:
        """``get`` of the hook's handle is this error, with the place and without the value."""
        token = new_token()
        self.put(place, token.reveal())
        with self.ask(hook, place) as broken:
            error = failure_of(broken.get)
            assert isinstance(error, kind), type(error).__name__
            assert error.uri == broken.uri
        must_hide(shown(error), token)

    def test_one_handle_serves_many_threads(self, place: Any, provider: TokenProvider) -> None:
        token = new_token()
        self.put(place, token.reveal())
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: provider.get(), range(32))) == {token}

    def test_closing_twice_is_harmless(self, provider: TokenProvider) -> None:
        provider.close()
        provider.close()

    def test_the_uri_fits_a_log_line(self, provider: TokenProvider) -> None:
        assert provider.uri
        assert provider.uri.isprintable()
        assert provider.uri in repr(provider)

    def test_nothing_shows_the_value(
        self,
        place: Any,
        provider: TokenProvider,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """URI, repr, logs at DEBUG, stdout and stderr."""
        caplog.set_level(logging.DEBUG)
        token = new_token()
        self.put(place, token.reveal())
        texts = [repr(provider.get()), repr(provider), provider.uri]
        for text in [*texts, everything_logged(caplog.records), *capfd.readouterr()]:
            must_hide(text, token)
