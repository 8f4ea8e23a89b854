"""KeySuite: everything a SealingKey promises."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, ClassVar, cast

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ProviderUnavailable,
    SealBroken,
)
from cmzon_secrets.sealing import SealingKey, Stanza
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.suite import Suite

__all__ = ["KeySuite"]

Opened = Callable[[Any], SealingKey]


class KeySuite(Suite):
    """Subclass it as ``Test…`` with a fixture ``new_place`` and a method ``open``.

    A *place* is what finds one key: a path, a name, an ARN. Hooks: ``denied``, ``unreachable``,
    ``secrets_of``; excuse in ``cannot`` what there is not.
    """

    authenticated: ClassVar[bool] = True
    """An altered stanza is found by the key. False only for a double that cannot: then what it
    answers must not be the data key, and the envelope finds it."""

    @pytest.fixture
    def new_place(self) -> Callable[[], Any]:
        """A function that makes a new key at each call and says where it is."""
        raise NotImplementedError("override the fixture new_place")

    def open(self, place: Any) -> SealingKey:
        """A fresh handle on the key."""
        raise NotImplementedError("override open(place)")

    def secrets_of(self, place: Any) -> Sequence[str]:
        """The key's own material as text (passphrase, base64), which nothing may show."""
        raise NotImplementedError

    def denied(self, place: Any) -> SealingKey:
        """A handle whose backend, or file mode, refuses it."""
        raise NotImplementedError

    def unreachable(self, place: Any) -> SealingKey:
        """A handle whose backend does not answer."""
        raise NotImplementedError

    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        """``opened(place)``: a handle that is closed when the test ends."""
        with ExitStack() as handles:
            yield lambda place: handles.enter_context(closing(self.open(place)))

    @pytest.fixture
    def place(self, new_place: Callable[[], Any]) -> Any:
        """A new key's place."""
        return new_place()

    @pytest.fixture
    def key(self, place: Any, opened: Opened) -> SealingKey:
        """A handle on the new key."""
        return opened(place)

    def test_another_handle_unwraps_what_one_has_wrapped(
        self, key: SealingKey, place: Any, opened: Opened
    ) -> None:
        data_key = secrets.token_bytes(32)
        stanza = key.wrap(data_key)
        assert opened(place).unwrap(stanza) == data_key
        assert key.unwrap(stanza) == data_key

    def test_every_wrap_of_one_data_key_unwraps(self, key: SealingKey) -> None:
        data_key = secrets.token_bytes(32)
        assert [key.unwrap(stanza) for stanza in (key.wrap(data_key), key.wrap(data_key))] == [
            data_key,
            data_key,
        ]

    @pytest.mark.parametrize("data_key", [b"\0" * 32, b"\xff" * 32], ids=["zeros", "ones"])
    def test_a_data_key_of_any_bytes_comes_back(self, data_key: bytes, key: SealingKey) -> None:
        assert key.unwrap(key.wrap(data_key)) == data_key

    def test_a_stanza_survives_json_and_holds_only_strings_and_integers(
        self, key: SealingKey
    ) -> None:
        data_key = secrets.token_bytes(32)
        stanza = key.wrap(data_key)
        assert {type(name) for name in stanza} == {str}
        assert {type(member) for member in stanza.values()} <= {str, int}
        assert key.unwrap(json.loads(json.dumps(dict(stanza)))) == data_key

    def test_a_stanza_does_not_contain_the_data_key(self, key: SealingKey) -> None:
        data_key = secrets.token_bytes(32)
        text = json.dumps(dict(key.wrap(data_key)), ensure_ascii=False)
        must_hide(text.lower(), *(encoding.lower() for encoding in encodings(data_key)))

    def test_any_altered_member_is_seal_broken(self, key: SealingKey) -> None:
        data_key = secrets.token_bytes(32)
        stanza = key.wrap(data_key)
        unbroken = [what for what, altered in alterations(stanza) if not self.breaks(key, altered)]
        assert unbroken == []
        assert key.unwrap(stanza) == data_key

    def breaks(self, key: SealingKey, altered: Stanza) -> bool:
        """Whether the altered stanza is refused as broken (see ``authenticated``)."""
        try:
            answer = key.unwrap(altered)
        except SealBroken as error:
            return error.uri == key.uri and error.message.isprintable()
        return not self.authenticated and len(answer) == 32

    @pytest.mark.parametrize(
        "stanza",
        [{}, {"type": "unheard-of"}, {"wrapped": "AAAA"}, {"x" * 1000: "y" * 10000}],
        ids=["nothing", "another type", "a fragment", "oversized"],
    )
    def test_a_stanza_of_no_key_is_seal_broken(
        self, stanza: dict[str, str | int], key: SealingKey
    ) -> None:
        with pytest.raises(SealBroken):
            key.unwrap(stanza)

    def test_another_key_says_seal_broken(
        self, key: SealingKey, new_place: Callable[[], Any], opened: Opened
    ) -> None:
        data_key = secrets.token_bytes(32)
        stanza = key.wrap(data_key)
        wrong = opened(new_place())
        if not self.authenticated:
            assert wrong.unwrap(stanza) != data_key
            return
        error = failure_of(lambda: wrong.unwrap(stanza))
        assert isinstance(error, SealBroken)
        must_hide(shown(error), *encodings(data_key))

    @pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
    def test_a_data_key_of_another_size_is_refused_or_comes_back(
        self, size: int, key: SealingKey
    ) -> None:
        data_key = secrets.token_bytes(size)
        try:
            stanza = key.wrap(data_key)
        except (CMzonSecretsError, ValueError):
            return
        assert key.unwrap(stanza) == data_key

    def test_one_handle_serves_many_threads(self, key: SealingKey) -> None:
        data_keys = [secrets.token_bytes(32) for _ in range(16)]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda k: key.unwrap(key.wrap(k)), data_keys))
        assert answers == data_keys

    def test_a_refusal_is_access_denied(self, key: SealingKey, place: Any) -> None:
        self.fails_as(AccessDenied, self.denied, key, place)

    def test_no_answer_is_provider_unavailable(self, key: SealingKey, place: Any) -> None:
        self.fails_as(ProviderUnavailable, self.unreachable, key, place)

    def fails_as(
        self,
        kind: type[CMzonSecretsError],
        hook: Callable[[Any], SealingKey],
        key: SealingKey,
        place: Any,
    ) -> None:
        """Both verbs of the hook's handle raise this kind, and show no data key."""
        data_key = secrets.token_bytes(32)
        stanza = key.wrap(data_key)
        with closing(self.ask(hook, place)) as broken:
            for verb in (partial(broken.wrap, data_key), partial(broken.unwrap, stanza)):
                error = failure_of(verb)
                assert isinstance(error, kind), type(error).__name__
                must_hide(shown(error), *encodings(data_key))

    def test_the_uri_fits_a_log_line(self, key: SealingKey, place: Any, opened: Opened) -> None:
        assert key.uri
        assert key.uri.isprintable()
        assert key.uri in repr(key)
        assert opened(place).uri == key.uri

    def test_nothing_of_a_whole_life_shows_the_key_or_a_data_key(
        self,
        key: SealingKey,
        place: Any,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """URI, repr, stanza, errors, logs at DEBUG, stdout and stderr."""
        caplog.set_level(logging.DEBUG)
        data_key = secrets.token_bytes(32)
        stanza = dict(key.wrap(data_key))
        key.unwrap(stanza)
        broken = failure_of(lambda: key.unwrap({}))
        texts = [key.uri, repr(key), repr(stanza), shown(broken)]
        texts += [everything_logged(caplog.records), *capfd.readouterr()]
        hidden = [*encodings(data_key), *self.ask(self.secrets_of, place)]
        for text in texts:
            must_hide(text, *hidden)

    def test_closing_twice_is_harmless(self, key: SealingKey) -> None:
        key.wrap(secrets.token_bytes(32))
        key.close()
        key.close()


def encodings(data_key: bytes) -> list[str]:
    """The data key as it might stand in a text."""
    return [
        data_key.hex(),
        base64.b64encode(data_key).decode(),
        base64.urlsafe_b64encode(data_key).decode(),
        base64.b32encode(data_key).decode(),
        data_key.decode("latin-1"),
        repr(data_key)[2:-1],
        str(int.from_bytes(data_key, "big")),
    ]


def alterations(stanza: Stanza) -> Iterator[tuple[str, Stanza]]:
    """Each member removed, changed, and of another type; what was done, and the result."""
    for name, member in stanza.items():
        without = {k: v for k, v in stanza.items() if k != name}
        yield f"{name} removed", without
        for altered in _changed(member):
            yield f"{name} = {altered!r:.60}", _stanza({**without, name: altered})


def _changed(member: str | int) -> list[object]:
    strangers: list[object] = [None, [], {}, 1.5, True, b"bytes"]
    if isinstance(member, int):
        return [*strangers, str(member), member + 1, member - 1, -member - 1, 0, 2**31, 2**70]
    letters = [member[:i] + _other(member[i]) + member[i + 1 :] for i in _places(member)]
    return [
        *strangers,
        0,
        "",
        member[:-1],
        member[1:],
        member + "A",
        member + " ",
        member * 2,
        *letters,
    ]


def _places(text: str) -> set[int]:
    """First, last and some between: every character of a short member."""
    return set(range(0, len(text), max(1, len(text) // 40))) | ({len(text) - 1} if text else set())


def _other(character: str) -> str:
    return "B" if character != "B" else "C"


def _stanza(members: Mapping[str, object]) -> Stanza:
    return cast("Stanza", members)  # hostile on purpose: a stanza is read from a file
