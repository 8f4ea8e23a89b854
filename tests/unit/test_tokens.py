"""A Token yields its value to ``reveal`` and to nothing else."""

import copy
import dataclasses
import hashlib
import inspect
import json
import logging
import pickle
import pprint
import string
import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token, Versions
from cmzon_secrets.errors import InvalidToken
from cmzon_secrets.tokens import MAX_TOKEN_BYTES

VALUE = "cmz_Ab3-._~+/5678901234567890xyz=="
FINGERPRINT = hashlib.sha256(VALUE.encode()).hexdigest()[:16]
B64TOKEN = string.ascii_letters + string.digits + "-._~+/"


@pytest.fixture
def token():
    return Token(VALUE, id="tok_1", scopes=["messages:send"])


# showing


@dataclasses.dataclass
class Holder:
    token: Token
    tokens: list[Token]


SHOWINGS = {
    "repr": repr,
    "str": str,
    "f-string": lambda t: f"{t} {t!r} {t!s} {t!a} {t:>80}",
    "format": lambda t: format(t, "<100"),
    "percent": lambda t: "%s %r %a" % (t, t, t),  # noqa: UP031  # this is what is tested
    "str.format": "{0} {0!r} {0:^90}".format,
    "list": lambda t: repr([t, (t,), {t: t}]),
    "pprint": pprint.pformat,
    "dir": lambda t: repr(dir(t)),
    "getmembers": lambda t: repr(inspect.getmembers(t)),
    "getmembers_static": lambda t: repr(inspect.getmembers_static(t)),
    "every attribute": lambda t: repr([getattr(t, name) for name in dir(t)]),
    "asdict": lambda t: repr(dataclasses.asdict(Holder(t, [t]))),
    "astuple": lambda t: repr(dataclasses.astuple(Holder(t, [t]))),
    "dataclass repr": lambda t: repr(Holder(t, [t])),
    "replace": lambda t: repr(dataclasses.replace(Holder(t, [t]))),
    "copy": lambda t: repr([copy.copy(t), copy.deepcopy(t), copy.deepcopy([t])]),
    "versions": lambda t: repr(Versions(t, t, t)) + str(list(Versions(t))),
    "exception": lambda t: repr(ValueError(t)) + str(ValueError(t)),
    "json with default": lambda t: json.dumps({"token": t}, default=str),
    "hash": lambda t: str(hash(t)),
}


@pytest.mark.parametrize("show", SHOWINGS.values(), ids=SHOWINGS)
def test_no_way_of_showing_a_token_shows_its_value(show, token):
    shown = show(token)
    assert VALUE not in shown
    assert VALUE[:12] not in shown


REFUSALS = {
    "vars": vars,
    "json": lambda t: json.dumps({"token": t}),
    "pickle": pickle.dumps,
    "pickle 0": lambda t: pickle.dumps(t, protocol=0),
    "state": lambda t: t.__getstate__(),
    "reduce": lambda t: t.__reduce__(),
    "dataclass fields": dataclasses.asdict,
    "bytes": bytes,
    "iteration": list,
    "length": len,
    "index": lambda t: t[0],
    "concatenation": lambda t: "Bearer " + t,
}


@pytest.mark.parametrize("take", REFUSALS.values(), ids=REFUSALS)
def test_what_would_have_to_show_the_value_is_refused(take, token):
    with pytest.raises(TypeError) as caught:
        take(token)
    assert VALUE not in str(caught.value)


def test_logging_shows_no_value(token, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").debug("%s %r", token, token, extra={"token": token})
    try:
        raise ValueError(token)
    except ValueError:
        logging.getLogger("test").exception("failed with %s", {"token": token})
    assert "tok_1" in caplog.text
    assert VALUE not in caplog.text + repr([vars(record) for record in caplog.records])


def test_a_traceback_with_locals_shows_no_value(token):
    def use(credential):
        inner = [credential]  # noqa: F841  # a reporter prints it
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError) as caught:
        use(token)
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "credential = <Token tok_1" in shown
    assert VALUE not in shown


BAD_CONSTRUCTIONS = {
    "space": lambda: Token(leaky(" ")),
    "line feed": lambda: Token(leaky("\n")),
    "too long": lambda: Token(leaky("x" * MAX_TOKEN_BYTES)),
    "id": lambda: Token(leaky(""), id="with space"),
    "id is the value": lambda: Token(leaky(""), id=leaky("")),
    "scopes": lambda: Token(leaky(""), scopes="messages:send"),
    "ips": lambda: Token(leaky(""), allowed_ips=[1]),
    "time": lambda: Token(leaky(""), issued_at=datetime(2026, 1, 1)),  # noqa: DTZ001
    "scopes that cannot be iterated": lambda: Token(leaky(""), scopes=5),
    "scopes that raise": lambda: Token(leaky(""), scopes=raising()),
}


def leaky(tail):
    return "leaky-value-12345" + tail


def raising():
    raise ZeroDivisionError
    yield


@pytest.mark.parametrize("construct", BAD_CONSTRUCTIONS.values(), ids=BAD_CONSTRUCTIONS)
def test_a_failing_constructor_shows_no_value(construct):
    with pytest.raises((InvalidToken, TypeError, ZeroDivisionError)) as caught:
        construct()
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "leaky-value" not in shown


def test_an_exception_elsewhere_keeps_no_frame_of_a_token(token):
    with pytest.raises(AttributeError) as caught:
        token.value  # noqa: B018
    assert VALUE not in repr(caught.value.__dict__) + str(caught.value)


# the value


def test_reveal_gives_the_value(token):
    assert token.reveal() == VALUE


@given(st.text(alphabet=B64TOKEN, min_size=1, max_size=200), st.integers(0, 4))
def test_every_b64token_is_accepted(text, padding):
    assert Token(text + "=" * padding).reveal() == text + "=" * padding


@given(
    st.text(alphabet=B64TOKEN, max_size=20),
    st.characters(exclude_characters=B64TOKEN),
    st.text(alphabet=B64TOKEN, min_size=1, max_size=20),
)
def test_any_other_character_is_refused_wherever_it_stands(before, intruder, after):
    with pytest.raises(InvalidToken):
        Token(before + intruder + after)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "=",
        "a=b",
        " a",
        "a ",
        "a\n",
        "a\r\nX-Evil: 1",
        "a\tb",
        "a\x00",
        "ключ",
        "a%20b",
        "“a”",
        "a,b",
        "\u00e9",
        "a\u200b",
        "\uff21",
        "a\u2028b",
        "\ud800",
    ],
)
def test_what_no_header_may_carry_is_refused(value):
    with pytest.raises(InvalidToken):
        Token(value)


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["a"], True])
def test_what_is_no_string_is_refused_by_its_type(value):
    with pytest.raises(InvalidToken, match=type(value).__name__):
        Token(value)


def test_the_longest_value_has_4096_bytes():
    assert len(Token("a" * 4096).reveal()) == 4096
    with pytest.raises(InvalidToken, match="4096"):
        Token("a" * 4097)


# the rest


def test_without_an_id_the_fingerprint_is_the_id():
    token = Token(VALUE)
    assert token.id == f"sha256:{FINGERPRINT}"
    assert token.fingerprint == FINGERPRINT
    assert not token.has_issuer_id
    assert Token(VALUE, id="tok_1").has_issuer_id


@pytest.mark.parametrize("id", ["", " ", "a b", "a\n", "é", "x" * 257, 5, b"a", "a\x7f"])
def test_an_id_that_could_not_be_logged_or_sent_is_refused(id):
    with pytest.raises(InvalidToken, match="id"):
        Token(VALUE, id=id)


def test_an_id_may_not_be_the_value_since_ids_are_shown():
    with pytest.raises(InvalidToken, match="shown"):
        Token(VALUE, id=VALUE)


def test_metadata_is_kept_as_tuples_and_in_utc():
    ist = timezone(timedelta(hours=5, minutes=30))
    token = Token(
        VALUE,
        scopes=["a", "b"],
        allowed_ips=iter(["10.0.0.1"]),
        issued_at=datetime(2026, 1, 1, 12, tzinfo=ist),
        expires_at=datetime(2026, 2, 1, tzinfo=UTC),
    )
    assert token.scopes == ("a", "b")
    assert token.allowed_ips == ("10.0.0.1",)
    assert token.issued_at == datetime(2026, 1, 1, 6, 30, tzinfo=UTC)
    assert token.issued_at.tzinfo is UTC


@pytest.mark.parametrize("name", ["issued_at", "expires_at"])
@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "2026-01-01T00:00:00Z", 0])  # noqa: DTZ001
def test_a_time_without_a_zone_is_refused(name, moment):
    with pytest.raises(InvalidToken, match=name):
        Token(VALUE, **{name: moment})


@pytest.mark.parametrize("scopes", ["messages:send", [1], ["a\nb"], [None]])
def test_scopes_are_a_list_of_printable_strings(scopes):
    with pytest.raises(InvalidToken, match="scopes"):
        Token(VALUE, scopes=scopes)


def test_a_token_is_immutable(token):
    for name in ("id", "scopes", "new_attribute", "_reveal"):
        with pytest.raises(AttributeError):
            setattr(token, name, "x")
        with pytest.raises(AttributeError):
            delattr(token, name)


def test_equality_is_by_value_alone(token):
    assert token == Token(VALUE, id="another")
    assert hash(token) == hash(Token(VALUE, id="another"))
    assert token != Token(VALUE + "=")
    assert token != VALUE
    assert len({token, Token(VALUE), Token("other")}) == 2


def test_equality_is_compared_in_constant_time(token, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "cmzon_secrets.tokens.hmac.compare_digest", lambda a, b: seen.append((a, b)) or a == b
    )
    assert token == Token(VALUE)
    assert seen == [(VALUE, VALUE)]


def test_a_copy_is_the_token_itself(token):
    assert copy.copy(token) is token
    assert copy.deepcopy({"t": token})["t"] is token


def test_expired_is_true_from_expires_at_on():
    end = datetime(2026, 1, 1, tzinfo=UTC)
    token = Token(VALUE, expires_at=end)
    assert not token.expired(end - timedelta(microseconds=1))
    assert token.expired(end)
    assert not Token(VALUE).expired(datetime.max.replace(tzinfo=UTC))


def test_the_mask_is_as_wide_for_every_token():
    short, long = Token("x", id="tok_1"), Token("x" * 4096, id="tok_1")
    assert len(repr(short)) == len(repr(long))


# Versions


def test_versions_iterate_over_what_is_held_current_first():
    one, two = Token("one", id="1"), Token("two", id="2")
    assert list(Versions()) == []
    assert list(Versions(one, None, two)) == [one, two]


def test_versions_find_a_token_by_its_id():
    one, two = Token("one", id="1"), Token("two", id="2")
    held = Versions(current=one, pending=two)
    assert held.find("2") is two
    assert held.find("3") is None
