"""Where a token may be sent, checked before a byte leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.http import Session, checked_base_url
from cmzon_secrets.http.addresses import (
    Proxy,
    checked_proxy,
    encoded_path,
    never_leaves_this_machine,
)
from cmzon_secrets.http.exchange import Target
from cmzon_secrets.http.tunnel import tunnel_request

TOKEN = Token("cmz_the-token-that-must-not-be-shown")


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.cmzon.com", "https://api.cmzon.com"),
        ("https://api.cmzon.com/", "https://api.cmzon.com"),
        ("https://proxy.example:8443/cmzon/", "https://proxy.example:8443/cmzon"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_a_base_url_is_https_or_loopback(url, checked):
    assert checked_base_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        "http://api.cmzon.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://2130706433",
        "http://0x7f.1",
        "http://evil.example#localhost",
        "http://evil.example?127.0.0.1",
        "http://evil.example\\@127.0.0.1",
        "http://127.0.0.1\\.evil.example",
        "https://user:pw@api.cmzon.com",
        "https://token@api.cmzon.com",
        "https://",
        "https:///v1",
        "api.cmzon.com",
        "//api.cmzon.com",
        "ftp://api.cmzon.com",
        "file:///etc/passwd",
        "",
        "https://api.cmzon.com?x=1",
        "https://api.cmzon.com#x",
        "https://api.cmzon.com/v1",
        "https://api.cmzon.com/v1/",
        "https://[::1",
        "https://api.cmzon.com:port",
        "https://api.cmzon.com:99999",
        "https://api cmzon.com",
        "https://api.cmzon.com\n",
        " https://api.cmzon.com",
        "ht\ntps://api.cmzon.com",
        "https://.cmzon.com",
        "https://api..cmzon.com",
        "https://" + "a" * 64 + ".com",
        "https://api.cmzön.com",
        "https://api.cmzon.com/ü",
        *(5, b"https://api.cmzon.com", None),
    ],
)
def test_any_other_base_url_is_refused_before_a_byte_is_sent(url):
    with pytest.raises(ConfigurationError) as caught:
        checked_base_url(url)
    assert caught.value.message.isprintable()


@given(st.text(max_size=40))
def test_any_text_is_a_base_url_or_a_configuration_error(text):
    for url in (text, f"https://{text}", f"http://{text}"):
        try:
            Target(checked_base_url(url), 1.0, None)
        except ConfigurationError as error:
            assert error.message.isprintable()  # noqa: PT017  # either outcome is right


def test_a_secret_in_the_wrong_part_of_a_base_url_is_not_repeated():
    for url in (f"https://{TOKEN.reveal()}@h", f"https://h?token={TOKEN.reveal()}"):
        with pytest.raises(ConfigurationError) as caught:
            checked_base_url(url)
        assert TOKEN.reveal() not in caught.value.message + (caught.value.hint or "")


def test_the_base_url_comes_from_the_argument_the_environment_or_is_the_vendors(monkeypatch):
    monkeypatch.setenv("CMZON_BASE_URL", "https://from.environment")
    assert Session("https://given").base_url == "https://given"
    assert Session().base_url == "https://from.environment"
    monkeypatch.delenv("CMZON_BASE_URL")
    assert Session().base_url == "https://api.cmzon.com"


# paths


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/tokens?name=a b&x=1", "/v1/tokens?name=a%20b&x=1"),
        ("/v1/tokens/ü", "/v1/tokens/%C3%BC"),
        ("/v1/a%2Fb", "/v1/a%2Fb"),
    ],
)
def test_a_path_is_encoded_where_it_has_to_be(path, encoded):
    assert encoded_path(path) == encoded


@pytest.mark.parametrize(
    "path",
    [
        *("/v1//messages", "/v1/./messages", "/v1/x/../messages", "/v1/messages/.", "/v1/.."),
        *("/v1/%6dessages", "/v1/messages%2e", "/v1/%4Dx", "/%7e", "/a%5fb", "/%2D", "/%30"),
    ],
)
def test_a_path_that_has_a_plainer_spelling_is_refused(path):
    with pytest.raises(ConfigurationError, match="plainer"):
        encoded_path(path)


def test_dots_slashes_and_codes_that_mean_something_else_are_sent():
    for path in ("/v1/..x", "/v1/x.", "/v1/a%2fb", "/v1/%5b", "/v1?next=//x/../%61"):
        assert encoded_path(path) == path


@given(st.text(max_size=30))
def test_any_text_is_a_path_of_printable_ascii_or_a_configuration_error(text):
    try:
        path = encoded_path(f"/{text}")
    except ConfigurationError as error:
        assert error.message.isprintable()  # noqa: PT017  # either outcome is right
    else:
        assert path.isascii()
        assert path.isprintable()
        assert " " not in path
        assert path.startswith("/")
        assert not path.startswith("//")


# proxies


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://proxy.example:3128/", Proxy("proxy.example", 3128)),
        ("http://proxy.example", Proxy("proxy.example", 80)),
        ("http://10.0.0.1:1", Proxy("10.0.0.1", 1)),
        ("http://[::1]:1", Proxy("::1", 1)),
        ("http://me:p%40w@proxy.example:1", Proxy("proxy.example", 1, ("me", "p@w"))),
        ("http://me@proxy.example:1", Proxy("proxy.example", 1, ("me", ""))),
    ],
)
def test_a_proxy_is_a_place_and_perhaps_a_password(url, proxy):
    assert checked_proxy(url) == proxy
    assert "p@w" not in repr(proxy)
    assert checked_proxy(proxy.address) == Proxy(proxy.host, proxy.port)


@pytest.mark.parametrize(
    ("host", "place"),
    [("api.cmzon.com", b"api.cmzon.com:443"), ("2001:db8::1", b"[2001:db8::1]:443")],
)
def test_a_tunnel_is_asked_for_by_host_and_port(host, place):
    said = tunnel_request(Proxy("proxy.example", 1), host, 443)
    assert said == b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.1:1", True),
        ("https://localhost", True),
        ("https://[::1]", True),
        ("https://api.cmzon.com", False),
        ("https://localhost.example", False),
    ],
)
def test_what_stays_on_this_machine_is_known_by_its_name(url, stays):
    assert never_leaves_this_machine(url) is stays
