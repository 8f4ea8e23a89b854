"""How a token lies in a version, and which of many versions counts."""

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token
from cmzon_secrets.errors import InvalidToken
from cmzon_secrets.providers.azure_versions import EMPTY, EMPTY_TAGS, Line, Version, tags_of

URI = "azurekeyvault://v/secrets/token"


def listed(id, created, base=None, claim=None, **tags):
    """A version of ours on top of ``base``, or one that somebody pasted."""
    ours = {} if base is None else {"cmzon-base": base, "cmzon-id": claim or id}
    return Version(id, created, True, {**ours, **tags})


class TestAToken:
    def kept(self, token):
        return Version("v1", 0, True, tags_of(token), token.reveal()).token(URI)

    def test_all_of_it_comes_back(self):
        token = Token(
            "cmz_value",
            id="tok_1",
            scopes=("messages:send", 'a "scope"'),
            issued_at=datetime(2026, 11, 24, 21, 0, 0, 123456, tzinfo=UTC),
            expires_at=datetime(2027, 11, 24, tzinfo=UTC),
            allowed_ips=("10.0.0.0/8",),
        )
        kept = self.kept(token)
        assert (kept, kept.id, kept.scopes) == (token, token.id, token.scopes)
        assert (kept.issued_at, kept.expires_at) == (token.issued_at, token.expires_at)
        assert kept.allowed_ips == token.allowed_ips

    @given(
        st.lists(st.text(st.characters(min_codepoint=32, categories=["L", "N", "P"])), max_size=12)
    )
    def test_any_scopes_come_back_or_are_refused_before_anything_is_written(self, scopes):
        token = Token("cmz_value", id="tok_1", scopes=scopes)
        try:
            tags = tags_of(token)
        except InvalidToken:
            assert len(repr(scopes)) > 500
            return
        assert len(tags) <= 11, "four more say where it stands"
        assert all(len(text) <= 256 for pair in tags.items() for text in pair)
        assert self.kept(token).scopes == tuple(scopes)

    def test_its_value_is_in_no_tag_and_no_repr(self):
        token = Token("cmz_value", id="tok_1")
        version = Version("v1", 0, True, tags_of(token), token.reveal())
        assert "cmz_value" not in repr(version)
        assert "cmz_value" not in repr(tags_of(token))

    def test_the_expiry_that_somebody_gave_a_pasted_value_is_its_own(self):
        ends = datetime(2027, 1, 1, tzinfo=UTC)
        assert Version("v1", 0, True, {}, "cmz_pasted", ends).token(URI).expires_at == ends

    def test_a_pasted_value_under_our_tags_is_a_token_of_its_own(self):
        tags = tags_of(Token("cmz_value", id="tok_1", scopes=("messages:send",)))
        found = Version.of(described("v1", tags), "cmz_another")
        assert found.tags == {}
        assert found.token(URI) == Token("cmz_another")
        assert found.token(URI).id.startswith("sha256:")

    @pytest.mark.parametrize(
        ("value", "tags", "word"),
        [
            ('{"token": "x"}', {}, "JSON"),
            ("-----BEGIN PRIVATE KEY-----", {}, "certificate"),
            ("two words", {}, "space"),
            ("zzz", {"cmzon-sha256": "x", "cmzon-v": "2"}, "later release"),
            ("zzz", {"cmzon-sha256": "x", "cmzon-v": "1", "cmzon-issued": "soon"}, "time"),
            ("zzz", {"cmzon-sha256": "x", "cmzon-v": "1", "cmzon-scopes.0": "{"}, "cmzon-scopes"),
            ("zzz", {"cmzon-sha256": "x", "cmzon-v": "1", "cmzon-scopes.0": "[1]"}, "scopes"),
            (
                "zzz",
                {"cmzon-sha256": "x", "cmzon-v": "1", "cmzon-ips.0": "[" * 100_000},
                "cmzon-ips",
            ),
        ],
    )
    def test_what_is_wrong_is_named_with_the_place_and_without_the_value(self, value, tags, word):
        with pytest.raises(InvalidToken) as caught:
            Version("v1", 0, True, tags, value).token(URI)
        assert word in caught.value.message
        assert caught.value.message.startswith(URI)
        assert value not in caught.value.message

    def test_an_empty_version_is_none_and_no_bearer_token_could_be_mistaken_for_it(self):
        assert Version("v1", 0, True, EMPTY_TAGS, EMPTY).token(URI) is None
        with pytest.raises(InvalidToken):
            Token(EMPTY)

    def test_it_counts_as_written_up_to_a_second_later_never_earlier(self):
        written = datetime(2026, 11, 25, 12, 0, 0, 999_999, tzinfo=UTC)
        version = Version("v1", int(written.timestamp()))
        assert timedelta(0) <= version.written_at - written <= timedelta(seconds=1)


def described(id, tags):
    created = datetime(2026, 11, 25, tzinfo=UTC)
    return SimpleNamespace(version=id, created_on=created, enabled=True, tags=tags, expires_on=None)


class TestALine:
    """Each case: the versions, what the service hands out, what should be in force, who won."""

    CASES = {
        "one version": (["a@1/none"], "a", "a", "a"),
        "one after the other": (["a@1/none", "b@2/a", "c@3/b"], "c", "c", "abc"),
        "of two rivals the earlier": (["a@1/none", "b@5/a", "c@4/a"], "b", "c", "ac"),
        "in one second the smaller id": (["a@1/none", "c@4/a", "b@4/a"], "c", "b", "ab"),
        "on top of a loser nobody wins": (["a@1/none", "b@2/a", "c@3/a", "d@4/c"], "d", "b", "ab"),
        "a late rival after two more rotations": (
            ["a@1/none", "b@2/a", "c@3/b", "x@9/a"],
            "x",
            "c",
            "abc",
        ),
        "the same request twice": (["a@1/none", "b@2/a=t", "c@3/a=t"], "c", "b", "abc"),
        "and one on top of the second": (
            ["a@1/none", "b@2/a=t", "c@3/a=t", "d@4/c"],
            "d",
            "d",
            "abcd",
        ),
        "rivals on top of both": (
            ["a@1/none", "b@2/a=t", "c@3/a=t", "d@5/c", "e@4/b"],
            "d",
            "e",
            "abce",
        ),
        "a copy that came late": (["a@1/none", "b@2/a=t", "c@3/b", "d@4/a=t"], "d", "c", "abcd"),
        "pasted over": (["a@1/none", "p@2"], "p", "p", "ap"),
        "rotated on top of what was pasted": (["a@1/none", "p@2", "b@3/p"], "b", "b", "apb"),
        "who never saw what was pasted": (["a@1/none", "p@2", "b@3/a"], "b", "p", "apb"),
        "nor in the same second": (["a@1/none", "p@3", "b@3/a"], "b", "p", "apb"),
        "a base that is not there any more": (["b@3/gone"], "b", "b", "b"),
        "tags that go in a circle": (["a@1/b", "b@2/a"], "b", "b", "ab"),
    }

    @pytest.mark.parametrize(("texts", "latest", "in_force", "winners"), CASES.values(), ids=CASES)
    def test_everybody_finds_the_same_winner(self, texts, latest, in_force, winners):
        versions = {v.id: v for v in map(self.parsed, texts)}
        for _ in range(5):
            shuffled = random.sample(list(versions.values()), len(versions))
            line = Line(shuffled, versions[latest])
            assert line.in_order == line.same(latest, in_force)
            assert line.in_force is not None
            assert line.same(line.in_force.id, in_force)
            assert {v for v in versions if line.stands(v)} == set(winners)

    def parsed(self, text):
        """``id@second/base=claim``; without a base somebody pasted it."""
        name, _, rest = text.partition("@")
        created, _, rest = rest.partition("/")
        base, _, claim = rest.partition("=")
        return listed(name, int(created), base or None, claim or None)

    def test_losers_do_not_stand(self):
        a, b, c = listed("a", 1, "none"), listed("b", 2, "a"), listed("c", 3, "a")
        line = Line([a, b, c], c)
        assert [line.stands(v) for v in "abc"] == [True, True, False]
        assert not line.stands("unknown")

    def test_what_nobody_may_read_any_more_is_not_put_in_force(self):
        a, b = listed("a", 1, "none"), listed("b", 3, "a")
        winner = Version("c", 2, False, {"cmzon-base": "a", "cmzon-id": "c"})
        assert Line([a, b, winner], b).in_force is None

    def test_a_pasted_value_that_is_put_in_force_again_stands_for_itself(self):
        first, pasted, late = listed("a", 1, "none"), listed("p", 2), listed("x", 3, "a")
        again = Version("q", 5, True, pasted.put_again())
        for line in (Line([first, pasted, late, again], again),):
            assert line.in_order
            assert line.same("p", "q")
        following = listed("n", 9, "q")
        assert Line([first, pasted, late, again, following], following).in_order

    def test_thousands_of_versions_are_no_problem(self):
        versions = [listed("v0", 0, "none")]
        versions += [listed(f"v{n}", n, f"v{n - 1}") for n in range(1, 5000)]
        line = Line(versions, versions[-1])
        assert line.in_order
        assert line.stands("v4999")
