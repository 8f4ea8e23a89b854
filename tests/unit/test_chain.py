"""A chain: the first place that has the token, and nothing that anybody closed is ever passed over."""

import pytest

from cmzon_secrets import Token, TokenCache, TokenProvider, open_provider, open_store
from cmzon_secrets.chain import Chain
from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidToken,
    InvalidURI,
    ProviderUnavailable,
    ReadOnlyProvider,
    SealBroken,
    TokenNotFound,
)
from cmzon_secrets.testing import ManualClock

FRESH, COPY = Token("cmz_fresh", id="tok_fresh"), Token("cmz_copy", id="tok_copy")


class Place(TokenProvider):
    """A place that gives a token, or raises."""

    def __init__(self, name, answer):
        self.name, self.answer = name, answer
        self.asked, self.closed, self.refused = 0, False, []

    @property
    def uri(self):
        return f"place:{self.name}"

    def get(self):
        self.asked += 1
        if isinstance(self.answer, Token):
            return self.answer
        raise self.answer(f"{self.uri} — {self.answer.__name__}", uri=self.uri, hint=self.name)

    def invalidate(self, token):
        self.refused.append(token)

    def close(self):
        self.closed = True


class Broken(Place):
    """One whose error knows no place of its own."""

    def get(self):
        raise InvalidToken(f"{self.uri} — it is no token")


@pytest.fixture
def events():
    return []


def chain_of(*answers, events=None, **options):
    places = [Place(name, answer) for name, answer in zip("abc", answers, strict=False)]
    return Chain(places, subscriber=events.append if events is not None else None, **options)


# what answers


def test_the_first_place_that_has_the_token_answers_and_no_other_is_asked(events):
    chain = chain_of(FRESH, COPY, events=events)
    assert chain.get() == FRESH
    assert chain.answered is chain.links[0]
    assert chain.links[1].asked == 0
    assert events == []


def test_a_place_that_holds_nothing_is_passed_over_and_told_of(events):
    chain = chain_of(TokenNotFound, COPY, events=events)
    assert chain.get() == COPY
    assert chain.answered is chain.links[1]
    (event,) = events
    assert (event.name, event.uri) == ("chain_fell_through", chain.uri)
    assert event.facts == {"place": "place:a", "error": "TokenNotFound"}


def test_every_fall_is_told_each_time(events):
    chain = chain_of(TokenNotFound, TokenNotFound, COPY, events=events)
    chain.get()
    chain.get()
    assert [event.facts["place"] for event in events] == ["place:a", "place:b"] * 2


def test_a_place_that_fills_up_answers_again(events):
    chain = chain_of(TokenNotFound, COPY, events=events)
    chain.get()
    chain.links[0].answer = FRESH
    assert chain.get() == FRESH
    assert chain.answered is chain.links[0]


def test_nothing_has_answered_before_the_first_token():
    assert chain_of(FRESH).answered is None


# what is not passed over


def test_an_outage_is_not_passed_over_unless_asked_for(events):
    chain = chain_of(ProviderUnavailable, COPY, events=events)
    with pytest.raises(ProviderUnavailable, match="place:a"):
        chain.get()
    assert chain.links[1].asked == 0
    assert events == []


def test_an_outage_is_passed_over_where_asked_for_and_told_of(events):
    chain = chain_of(ProviderUnavailable, COPY, events=events, on_outage=True)
    assert chain.get() == COPY
    assert [event.facts["error"] for event in events] == ["ProviderUnavailable"]


@pytest.mark.parametrize("on_outage", [False, True])
@pytest.mark.parametrize("error", [AccessDenied, SealBroken])
def test_a_refusal_or_a_broken_seal_is_final(error, on_outage, events):
    chain = chain_of(error, COPY, events=events, on_outage=on_outage)
    with pytest.raises(error, match="place:a") as caught:
        chain.get()
    assert caught.value.uri == "place:a"
    assert chain.links[1].asked == 0
    assert events == []


def test_what_is_no_token_is_final():
    chain = Chain([Broken("a", None), Place("b", COPY)], on_outage=True)
    with pytest.raises(InvalidToken, match="place:a"):
        chain.get()


def test_a_refusal_behind_an_empty_place_names_itself(events):
    chain = chain_of(TokenNotFound, AccessDenied, COPY, events=events)
    with pytest.raises(AccessDenied, match="place:b"):
        chain.get()
    assert len(events) == 1


# where none has it


def test_where_no_place_has_a_token_the_error_tells_of_each():
    with pytest.raises(TokenNotFound) as caught:
        chain_of(TokenNotFound, TokenNotFound).get()
    assert str(caught.value) == "place:a — TokenNotFound; then place:b — TokenNotFound"
    assert caught.value.uri == "place:a, then place:b"
    assert caught.value.hint == "a"


def test_where_one_was_down_the_whole_is_retryable_for_the_token_may_be_there():
    with pytest.raises(ProviderUnavailable, match=r"place:a.*place:b") as caught:
        chain_of(TokenNotFound, ProviderUnavailable, on_outage=True).get()
    assert caught.value.retryable
    assert caught.value.hint == "b"


# with a cache


def test_a_cache_bridges_an_outage_with_the_last_token_and_not_with_a_copy():
    clock = ManualClock()
    chain = chain_of(FRESH, COPY)
    cache = TokenCache(chain, ttl=60, clock=clock)
    assert cache.get() == FRESH
    chain.links[0].answer = ProviderUnavailable
    clock.advance(61)
    assert cache.get() == FRESH
    assert chain.links[1].asked == 0
    cache.close()


def test_a_refused_token_is_told_to_every_place():
    chain = chain_of(FRESH, COPY)
    cache = TokenCache(chain, clock=ManualClock())
    chain.invalidate(cache.get())
    assert [place.refused for place in chain.links] == [[FRESH], [FRESH]]
    cache.close()


def test_closing_it_closes_each_place():
    chain = chain_of(FRESH, COPY)
    chain.close()
    assert all(place.closed for place in chain.links)


# opening one


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.delenv("FIRST", raising=False)
    monkeypatch.setenv("SECOND", "cmz_second")


def test_several_uris_are_a_chain(variables, events):
    with open_provider(["env:FIRST", "env:SECOND"], subscriber=events.append) as chain:
        assert chain.uri == "env:FIRST, then env:SECOND"
        assert chain.get() == Token("cmz_second")
        assert chain.answered.uri == "env:SECOND"
    assert [event.name for event in events] == ["chain_fell_through"]


def test_one_uri_in_a_list_is_a_chain_of_one(variables):
    with open_provider(["env:SECOND"], on_outage=True) as chain:
        assert chain.get() == Token("cmz_second")


def test_options_hold_for_every_link(tmp_path, monkeypatch):
    uris = [f"file:{tmp_path}/a", f"file:{tmp_path}/b"]
    with open_provider(uris, key="env:THE_KEY") as chain:
        assert [link.uri.partition("?")[2] for link in chain.links] == ["key=env:THE_KEY"] * 2


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ([], "at least one"),
        (["env:A", "env:B", "env:A"], "twice"),
        (["env:A", ["env:B"]], "each link must be a URI"),
        (["env:A", None], "each link must be a URI"),
    ],
)
def test_what_is_no_chain_is_refused(uris, why):
    with pytest.raises(ConfigurationError, match=why):
        open_provider(uris)


def test_the_same_object_twice_is_refused():
    place = Place("a", FRESH)
    with pytest.raises(ConfigurationError, match="twice"):
        Chain([place, place])


def test_an_error_in_a_link_says_which():
    with pytest.raises(InvalidURI, match=r"link 2 of the chain: env: URI — unknown option 'x'"):
        open_provider(["env:A", "env:B?x=1"])


def test_a_single_place_has_nothing_to_go_on_to():
    with pytest.raises(ConfigurationError, match="on_outage"):
        open_provider("env:A", on_outage=True)


def test_a_chain_is_not_opened_to_write(tmp_path):
    with pytest.raises(ReadOnlyProvider, match="one place"):
        open_store([f"file:{tmp_path}/a?key=env:K", f"file:{tmp_path}/b?key=env:K"])


def test_an_sdk_is_not_needed_before_its_link_is_asked(variables):
    uris = ["env:SECOND", "awssecretsmanager://prod/acme?region=eu-central-1"]
    with open_provider(uris) as chain:
        assert chain.get() == Token("cmz_second")
