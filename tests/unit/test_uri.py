"""URIs: parsed once, nothing guessed, nothing repeated that may be a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.errors import InvalidURI
from cmzon_secrets.uri import Location, parse, shown_variable, split

SCHEMES = ["env", "file", "passphrase", "keyfile", "awssecretsmanager"]
SECRET = "cmz_a-token-in-the-wrong-place"


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("env:CMZON_API_TOKEN", Location("env", "CMZON_API_TOKEN", {})),
        ("file:token.sealed", Location("file", "token.sealed", {})),
        ("file:/abs/path", Location("file", "/abs/path", {})),
        ("file:///abs/path", Location("file", "/abs/path", {}, authority=True)),
        ("file:a%20b%3Fc", Location("file", "a b?c", {})),
        ("file:t?key=keyfile:k", Location("file", "t", {"key": "keyfile:k"})),
        ("file:t?key=keyfile:k%3Fx%3D1%26y", Location("file", "t", {"key": "keyfile:k?x=1&y"})),
        ("file:t?a=1&b=2", Location("file", "t", {"a": "1", "b": "2"})),
        ("file:t?a=b=c", Location("file", "t", {"a": "b=c"})),
        ("file:naïve/ключ", Location("file", "naïve/ключ", {})),
        ("passphrase:", Location("passphrase", "", {})),
        (
            "awssecretsmanager://arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/x-AbCdEf",
            Location(
                "awssecretsmanager",
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/x-AbCdEf",
                {},
                authority=True,
            ),
        ),
    ],
)
def test_a_uri_is_split_into_its_parts(uri, location):
    assert parse(uri, schemes=SCHEMES) == location


path_text = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="\0"), min_size=1, max_size=40
).filter(lambda text: not text.startswith("/"))
option_names = path_text.map("x{}".format)


@given(
    st.sampled_from(["env", "file", "awssecretsmanager"]),
    path_text.filter(lambda text: ":" not in text),
    st.dictionaries(option_names, path_text, max_size=3),
    st.booleans(),
)
def test_a_location_printed_and_parsed_is_the_same(scheme, path, options, authority):
    location = Location(scheme, path, options, authority)
    assert parse(str(location), schemes=SCHEMES) == location


@given(st.text(max_size=60))
def test_any_text_is_a_location_or_an_invalid_uri(text):
    for uri in (text, f"file:{text}", f"file:p?{text}"):
        assert outcome(uri).isprintable()


def outcome(uri):
    try:
        return str(parse(uri, schemes=SCHEMES))
    except InvalidURI as error:
        return error.message


def test_a_line_feed_in_an_option_name_does_not_come_out_as_one():
    assert outcome("file:t?context.a%0Ab=1") == "file:t?context.a%0Ab=1"


REFUSED = {
    "no scheme": (SECRET, "scheme"),
    "a path": ("/etc/token", "scheme"),
    "empty": ("", "scheme"),
    "unknown scheme": ("redis:host", "redis"),
    "wrong case": ("FILE:x", "FILE"),
    "doubled option": ("file:t?key=a&key=b", "'key' is given twice"),
    "option without a value": ("file:t?key", "NAME=VALUE"),
    "empty option": ("file:t?key=", "'key' is empty"),
    "nameless option": ("file:t?=x", "NAME=VALUE"),
    "empty query": ("file:t?", "NAME=VALUE"),
    "empty part": ("file:t?a=1&&b=2", "NAME=VALUE"),
    "broken percent": ("file:a%zz", "path"),
    "percent at the end": ("file:a%2", "path"),
    "no UTF-8": ("file:a%ff", "path"),
    "zero byte": ("file:a%00b", "path"),
    "broken percent in an option": ("file:a?key=%", "'key'"),
    "line feed": ("file:a\nb", "control character"),
    "user and password": (f"file://user:{SECRET}@host/x", "user and password"),
    "password only": (f"file://:{SECRET}@host", "user and password"),
    "& for ?": ("file:token.sealed&key=keyfile:token.key", "an option follows &"),
}


@pytest.mark.parametrize(("uri", "about"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named(uri, about):
    with pytest.raises(InvalidURI) as caught:
        parse(uri, schemes=SCHEMES)
    assert about in caught.value.message
    assert SECRET not in caught.value.message + (caught.value.hint or "")


@pytest.mark.parametrize(
    "name", ["token", "password", "passphrase", "secret_id", "client_secret", "TOKEN", "api_key"]
)
def test_a_credential_in_a_uri_is_refused_with_the_place_where_it_belongs(name):
    with pytest.raises(InvalidURI) as caught:
        parse(f"file:t?{name}={SECRET}", schemes=SCHEMES)
    assert name in caught.value.message
    assert "environment" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("part", ["name", "file_path", "variable"])
@pytest.mark.parametrize("uri", ["file:", "file://"], ids=["only a scheme", "only slashes"])
def test_a_scheme_that_needs_a_path_says_so(uri, part):
    location = parse(uri, schemes=SCHEMES)
    with pytest.raises(InvalidURI, match="nothing stands after file:"):
        getattr(location, part)


def test_a_file_has_no_host():
    assert split("file:///abs/path").file_path == "/abs/path"
    assert split("file:path").file_path == "path"
    with pytest.raises(InvalidURI, match="host after // has no meaning"):
        split("file://host/path").file_path  # noqa: B018


@pytest.mark.parametrize("name", ["1", "A-B", "A B", "//NAME", "ключ", "A\n", SECRET])
def test_what_is_no_variable_is_refused_and_not_repeated(name):
    with pytest.raises(InvalidURI, match="no variable name") as caught:
        Location("env", name, {}).variable  # noqa: B018
    assert name not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("CMZON_API_TOKEN", True),
        ("_2", True),
        ("cmz_live_0123456789abcdef", False),
        ("Token", False),
        ("A" * 65, False),
    ],
)
def test_a_valid_name_that_may_be_a_token_is_taken_and_not_shown(name, shown):
    assert Location("env", name, {}).variable == name
    assert (name in shown_variable(name)) is shown


def test_any_scheme_can_be_split_and_only_known_ones_parsed():
    assert split("redis:x?a=1") == Location("redis", "x", {"a": "1"})
    with pytest.raises(InvalidURI, match="does not begin with a scheme"):
        split(SECRET)


def test_an_ampersand_that_belongs_to_the_path_is_taken():
    assert parse("file:R&D", schemes=SCHEMES).path == "R&D"
    assert parse("file:a%26key=b", schemes=SCHEMES).path == "a&key=b"


@pytest.mark.parametrize("uri", ["file:~/token.sealed", "keyfile:~", "file:~root/t"])
def test_a_home_that_no_shell_put_in_is_refused(uri):
    with pytest.raises(InvalidURI, match="a ~ in front is not your home") as caught:
        _ = parse(uri, schemes=SCHEMES).file_path
    assert "$HOME" in caught.value.hint
    assert parse("file:./~/t", schemes=SCHEMES).file_path == "./~/t"
    assert parse("env:~", schemes=SCHEMES).name == "~"


def test_a_file_or_a_variable_where_its_uri_belongs_is_recognized_and_not_repeated(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUR_VARIABLE", "x")
    (tmp_path / "our.sealed").touch()
    remedies = {
        ("our.sealed", "file"): "a file has that name: write file:PATH?key=KEYURI",
        ("our.sealed", "keyfile"): "a file has that name: write keyfile:PATH",
        ("our.sealed", "redis"): "write SCHEME:…, one of: env, redis",
        ("OUR_VARIABLE", "file"): "a variable has that name: write env:NAME",
        ("neither", "file"): "write SCHEME:…, one of: env, file",
    }
    for (text, scheme), remedy in remedies.items():
        with pytest.raises(InvalidURI, match="does not begin with a scheme") as caught:
            parse(text, schemes=["env", scheme])
        assert caught.value.hint == remedy
        assert text not in str(caught.value)


@pytest.mark.parametrize("text", ["\ud800x", "a\x00b", "a\nb"])
def test_what_can_be_no_name_is_refused_like_any_other_text(text):
    with pytest.raises(InvalidURI, match="does not begin with a scheme"):
        parse(text, schemes=["env", "file"])


def test_an_unknown_scheme_lists_the_valid_ones():
    with pytest.raises(InvalidURI) as caught:
        parse("redis:x", schemes=SCHEMES, what="provider")
    assert caught.value.message == "provider URI — unknown scheme 'redis'"
    assert "did you mean" not in caught.value.hint


def test_a_scheme_that_is_nearly_right_is_guessed():
    with pytest.raises(InvalidURI) as caught:
        parse("awssecretmanager://app", schemes=SCHEMES)
    assert caught.value.hint.startswith("did you mean awssecretsmanager:? valid: ")
    assert all(scheme in caught.value.hint for scheme in SCHEMES)


def test_an_unknown_option_is_named_with_the_valid_ones():
    location = parse("file:t?kye=x", schemes=SCHEMES)
    with pytest.raises(InvalidURI, match=r"unknown option 'kye'; valid: context.NAME, key, region"):
        location.refuse_unknown_options(["key", "region", "context."])


def test_an_option_name_that_is_no_name_is_not_repeated():
    location = parse(f"file:t?{SECRET * 2}=x", schemes=SCHEMES)
    with pytest.raises(InvalidURI) as caught:
        location.refuse_unknown_options(["key"])
    assert SECRET not in caught.value.message


def test_an_option_with_a_dot_matches_its_prefix():
    location = parse("file:t?context.app=cmzon", schemes=SCHEMES)
    location.refuse_unknown_options(["key", "context."])
    with pytest.raises(InvalidURI):
        parse("file:t?contextapp=x", schemes=SCHEMES).refuse_unknown_options(["context."])


def test_a_fragment_is_refused_with_the_remedy():
    with pytest.raises(InvalidURI, match="fragment") as refusal:
        parse("file:tokens#1", schemes=["file"])
    assert refusal.value.hint == "write # as %23"
    assert parse("file:tokens%231", schemes=["file"]).path == "tokens#1"
