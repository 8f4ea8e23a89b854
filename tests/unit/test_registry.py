"""URIs become objects: lazily, strictly, and extensibly."""

import importlib.metadata
import subprocess
import sys
import textwrap

import pytest

from cmzon_secrets import Token, TokenProvider, TokenStore, open_provider, open_store
from cmzon_secrets.errors import ConfigurationError, InvalidURI, ReadOnlyProvider
from cmzon_secrets.registry import (
    find_examination,
    find_key_examination,
    open_issuer,
    open_key,
)
from cmzon_secrets.sealing import SealingKey

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("CMZON_TOKEN_URI", "CMZON_SECRETS_KEY", "CMZON_SECRETS_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THE_TOKEN", "cmz_value")
    monkeypatch.setenv("THE_KEY", KEY)


# opening


def test_a_uri_opens_a_provider():
    with open_provider("env:THE_TOKEN") as provider:
        assert isinstance(provider, TokenProvider)
        assert provider.get() == Token("cmz_value")


def test_without_a_uri_the_environment_says_which(monkeypatch):
    monkeypatch.setenv("CMZON_TOKEN_URI", "env:THE_TOKEN")
    assert open_provider().get() == Token("cmz_value")


def test_without_any_uri_the_error_says_how_to_give_one():
    with pytest.raises(ConfigurationError, match="CMZON_TOKEN_URI is not set") as caught:
        open_provider()
    assert "export CMZON_TOKEN_URI=" in caught.value.hint


def test_a_store_is_opened_as_one(tmp_path):
    with open_store(f"file:{tmp_path}/t?key=env:THE_KEY") as store:
        assert isinstance(store, TokenStore)


def test_a_read_only_provider_is_no_store():
    with pytest.raises(ReadOnlyProvider) as caught:
        open_store("env:THE_TOKEN")
    assert caught.value.uri == "env:THE_TOKEN"
    assert caught.value.hint


def test_opening_reads_nothing(tmp_path):
    open_provider("env:NOT_SET_AT_ALL").close()
    open_provider(f"file:{tmp_path}/missing/t?key=env:NOT_SET_EITHER").close()


# options


def test_options_may_be_given_by_name(tmp_path):
    by_name = open_store(f"file:{tmp_path}/t", key="env:THE_KEY")
    in_uri = open_store(f"file:{tmp_path}/t?key=env:THE_KEY")
    by_name.stage(Token("cmz_value"))
    assert in_uri.versions().pending == Token("cmz_value")
    assert by_name.uri == in_uri.uri


def test_an_option_that_is_none_counts_as_not_given(tmp_path, monkeypatch):
    monkeypatch.setenv("CMZON_SECRETS_KEY", "env:THE_KEY")
    assert "key=env:THE_KEY" in open_store(f"file:{tmp_path}/t", key=None).uri


def test_an_option_in_both_places_is_refused(tmp_path):
    with pytest.raises(InvalidURI, match="'key' is given twice"):
        open_store(f"file:{tmp_path}/t?key=env:THE_KEY", key="env:THE_KEY")


def test_an_opened_key_and_a_key_in_the_uri_are_refused(tmp_path):
    with pytest.raises(InvalidURI, match="'key' is given twice"):
        open_store(f"file:{tmp_path}/t?key=env:THE_KEY", key=open_key("env:THE_KEY"))


def test_a_key_may_be_given_opened(tmp_path):
    key = open_key("env:THE_KEY")
    assert isinstance(key, SealingKey)
    assert "key=env:THE_KEY" in open_store(f"file:{tmp_path}/t", key=key).uri


def test_an_opened_key_is_refused_where_none_is_used():
    with pytest.raises(InvalidURI, match="unknown option 'key'"):
        open_provider("env:THE_TOKEN", key=open_key("env:THE_KEY"))


@pytest.mark.parametrize(
    "uri", ["env:THE_TOKEN?key=env:THE_KEY", "file:t?region=x&key=env:THE_KEY", "file:t?kye=x"]
)
def test_an_option_that_this_scheme_does_not_know_is_refused_by_name(uri):
    with pytest.raises(InvalidURI, match=r"unknown option .*; valid:"):
        open_provider(uri)


def test_an_unknown_option_by_name_is_refused_too():
    with pytest.raises(InvalidURI, match="unknown option 'region'"):
        open_provider("env:THE_TOKEN", region="x")


# keys


def test_the_key_comes_from_the_uri_else_the_environment_else_is_a_passphrase(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CMZON_SECRETS_KEY", "env:OTHER")
    assert open_key("env:THE_KEY").uri == "env:THE_KEY"
    assert open_key().uri == "env:OTHER"
    monkeypatch.delenv("CMZON_SECRETS_KEY")
    assert open_key().uri == "passphrase:"
    assert "key=passphrase:" in open_store(f"file:{tmp_path}/t").uri


@pytest.mark.parametrize("key", ["redis:x", "THE_KEY", "env:THE_KEY%3Fx%3D1", ""])
def test_an_error_about_the_key_names_key(key):
    with pytest.raises(InvalidURI, match=r"key"):
        open_store(f"file:t?key={key}")


def test_a_key_pasted_in_place_of_its_uri_is_not_repeated():
    with pytest.raises(InvalidURI, match="key= of the file: URI") as caught:
        open_store("file:t", key=KEY)
    assert KEY not in caught.value.message + (caught.value.hint or "")


# issuers


def test_an_unknown_issuer_lists_those_there_are():
    with pytest.raises(ConfigurationError, match="'stripe'") as caught:
        open_issuer("stripe")
    assert "cmzon" in caught.value.hint
    assert "manual" in caught.value.hint


def test_an_issuer_refuses_options_it_does_not_know():
    with pytest.raises(ConfigurationError, match=r"unknown option 'colour'; valid: .*base_url"):
        open_issuer("manual", colour="red")


def test_an_issuer_takes_the_options_it_knows():
    open_issuer("manual", base_url="http://127.0.0.1:1").close()


# third parties


def installed(tmp_path, monkeypatch, group, name, target):
    """A distribution of somebody else's, as pip would leave it."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cmzon_secrets.{group}]\n{name} = {target}\n")
    (tmp_path / "theirs_package.py").write_text(
        textwrap.dedent("""
        from cmzon_secrets.testing import MemoryIssuer, MemoryStore

        class Store(MemoryStore):
            OPTIONS = frozenset({"colour"})

            @classmethod
            def from_location(cls, location):
                store = cls()
                store.location = location
                return store

        class Issuer(MemoryIssuer):
            OPTIONS = frozenset({"clock"})
    """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs_package", raising=False)


def test_an_entry_point_adds_a_scheme(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "providers", "theirs", "theirs_package:Store")
    store = open_store("theirs://a/b?colour=red")
    assert type(store).__name__ == "Store"
    assert store.location.path == "a/b"
    assert store.location.options == {"colour": "red"}
    with pytest.raises(InvalidURI, match="unknown option 'size'"):
        open_store("theirs://a/b?size=1")
    with pytest.raises(InvalidURI) as caught:
        open_store("nobodys:x")
    assert "theirs" in caught.value.hint


def test_an_entry_point_adds_an_issuer(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "issuers", "theirs", "theirs_package:Issuer")
    assert type(open_issuer("theirs")).__name__ == "Issuer"


def test_an_entry_point_cannot_take_a_scheme_of_ours(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "providers", "env", "theirs_package:Store")
    assert type(open_provider("env:THE_TOKEN")).__name__ == "EnvironmentVariable"


def test_a_class_that_is_opened_by_no_uri_says_so(tmp_path, monkeypatch):
    target = "cmzon_secrets.testing.memory_store:MemoryStore"
    installed(tmp_path, monkeypatch, "providers", "theirs", target)
    with pytest.raises(ConfigurationError, match="URI — MemoryStore is not opened by one"):
        open_store("theirs://a/b")


@pytest.mark.parametrize("target", ["theirs_package:Missing", "not_there:Store", "theirs_package"])
def test_a_broken_entry_point_is_a_clear_error(target, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "providers", "theirs", target)
    with pytest.raises(ConfigurationError, match=f"^{target} — it cannot be loaded"):
        open_store("theirs://a/b")


# examinations


def test_every_cloud_and_each_of_its_keys_has_an_examination():
    for scheme in ("awskms", "awssecretsmanager", "azurekeyvault", "env", "file", "hashivault"):
        assert callable(find_examination(scheme).examine)
        assert callable(find_examination(scheme).policy)
    for scheme in ("awskms", "azurekeyvault", "hashivault-transit"):
        assert callable(find_key_examination(scheme).policy)


def test_a_scheme_without_an_examination_is_no_error():
    assert find_examination("nobodys") is None
    assert find_key_examination("keyfile") is None


def test_an_entry_point_adds_an_examination(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "examinations", "theirs", "theirs_package")
    assert find_examination("theirs").__name__ == "theirs_package"


def test_an_examination_that_cannot_be_loaded_is_a_clear_error(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "examinations", "theirs", "not_there")
    with pytest.raises(ConfigurationError, match=r"^not_there — it cannot be loaded"):
        find_examination("theirs")


# missing packages


def test_a_missing_package_is_an_error_that_names_the_extra():
    script = """
        import sys
        sys.modules["keyring"] = None  # as if it were not installed
        from cmzon_secrets.errors import ConfigurationError
        from cmzon_secrets.registry import open_key
        try:
            open_key("keyring:cmzon").wrap(b"0" * 32)
        except ConfigurationError as error:
            print(error.hint)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.strip() == 'pip install "cmzon-secrets[keyring]"', run.stderr


def test_what_we_bring_ourselves_is_opened_without_asking_what_else_is_installed(monkeypatch):
    def search(**group):
        raise AssertionError("it takes milliseconds, and a fleet opens ten thousand places")

    monkeypatch.setattr(importlib.metadata, "entry_points", search)
    open_store("file:token.sealed?key=env:THE_KEY").close()
    with pytest.raises(AssertionError, match="it takes milliseconds"):
        open_store("elsewhere:token")
