"""What an account names, opened: shared issuers, checked policies, members of a fleet."""

import pytest

from cmzon_secrets import open_store
from cmzon_secrets.accounts import Issuers, members, open_account, policy_of
from cmzon_secrets.config import load_config
from cmzon_secrets.errors import ConfigurationError, ReadOnlyProvider
from cmzon_secrets.rotation import Fleet
from cmzon_secrets.sealing_keys.key_file import generate_key_file


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A function: the accounts of this text."""
    monkeypatch.delenv("CMZON_ADMIN_URI", raising=False)
    monkeypatch.setenv("ADMIN", "cmz_admin")

    def load(text):
        path = tmp_path / "cmzon-secrets.toml"
        path.write_text(text)
        return load_config(path)

    return load


def test_accounts_of_the_same_issuer_and_admin_share_it(config):
    text = (
        'admin = "env:ADMIN"\nbase_url = "http://127.0.0.1:1"\n'
        '[accounts.a]\ntoken = "file:a"\n[accounts.b]\ntoken = "file:b"\n'
        '[accounts.c]\ntoken = "file:c"\nadmin = "env:OTHER"\n'
    )
    a, b, c = config(text).accounts.values()
    with Issuers() as issuers:
        assert issuers.of(a) is issuers.of(b)
        assert issuers.of(a) is not issuers.of(c)


def test_an_account_without_admin_token_is_refused_with_the_remedy(config):
    (account,) = config('[accounts.a]\ntoken = "file:a"\n').accounts.values()
    with Issuers() as issuers, pytest.raises(ConfigurationError, match="no admin token") as caught:
        issuers.of(account)
    assert "CMZON_ADMIN_URI" in caught.value.hint


def test_the_environment_names_the_admin_token_of_accounts_that_name_none(config, monkeypatch):
    monkeypatch.setenv("CMZON_ADMIN_URI", "env:ADMIN")
    (account,) = config('[accounts.a]\ntoken = "file:a"\n').accounts.values()
    with Issuers() as issuers:
        assert issuers.of(account).lists


def test_a_policy_that_contradicts_itself_is_refused_with_its_line_before_anything_is_opened(
    config,
):
    loaded = config(
        '[accounts.a]\ntoken = "file:a"\n\n[accounts.b]\ntoken = "file:b"\ngrace = "10s"\n'
    )
    with Issuers() as issuers, pytest.raises(ConfigurationError) as caught:
        members(loaded.accounts.values(), issuers, config=loaded)
    assert f"{loaded.path}:4 — rotation policy 'b' — grace 10s < reader_ttl" in str(caught.value)
    assert caught.value.hint == "set grace to at least 6m"


def test_two_accounts_in_one_place_are_refused_with_both_lines(config):
    loaded = config(
        '[accounts.a]\ntoken = "file:t?key=env:K"\n\n[accounts.b]\ntoken = "file:t?key=keyfile:k"\n'
    )
    expected = r"toml:4 — account 'b' names the same place as account 'a' \(line 1\)"
    with Issuers() as issuers, pytest.raises(ConfigurationError, match=expected):
        members(loaded.accounts.values(), issuers, config=loaded)


def test_a_variable_may_be_read_for_several_accounts(config):
    loaded = config('[accounts.a]\ntoken = "env:T"\n[accounts.b]\ntoken = "env:T"\n')
    with Issuers() as issuers:
        assert len(members(loaded.accounts.values(), issuers, config=loaded)) == 2


def test_without_a_file_the_policy_speaks_for_itself(config):
    (account,) = config('[accounts.b]\ntoken = "file:b"\ngrace = "10s"\n').accounts.values()
    with pytest.raises(ConfigurationError, match=r"^rotation policy 'b'"):
        policy_of(account)


def test_a_chain_cannot_be_rotated(config):
    text = 'admin = "env:ADMIN"\n[accounts.a]\ntoken = ["env:T", "env:U"]\n'
    (account,) = config(text).accounts.values()
    with Issuers() as issuers, pytest.raises(ReadOnlyProvider), open_account(account, issuers):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("awssecretsmanager://prod/a", "awssecretsmanager://dev/b", True),
        ("awssecretsmanager://a?region=eu-west-1", "awssecretsmanager://b?region=us-east-1", False),
        ("azurekeyvault://one/secrets/a", "azurekeyvault://one/secrets/b", True),
        ("azurekeyvault://one/secrets/a", "azurekeyvault://two/secrets/a", False),
        ("hashivault://m/a", "hashivault://m/b?namespace=team", False),
        ("file:a?key=env:K", "file:b?key=env:L", True),
        ("file:a", "hashivault://m/a", False),
    ],
)
def test_accounts_share_the_limits_of_the_service_that_they_are_kept_in(
    config, first, second, shared
):
    text = f'[accounts.a]\ntoken = "{first}"\n[accounts.b]\ntoken = "{second}"\n'
    with Issuers() as issuers:
        a, b = members(config(text).accounts.values(), issuers)
    assert (a.service == b.service) is shared


def test_a_fleet_of_sealed_files_rotates_at_the_api(config, tmp_path, cmzon_emulator, monkeypatch):
    generate_key_file(tmp_path / "k")
    monkeypatch.setenv("ADMIN", cmzon_emulator.admin_token)
    text = f'admin = "env:ADMIN"\nbase_url = "{cmzon_emulator.base_url}"\n' + "".join(
        f'[accounts.a{n}]\ntoken = "file:{n}.sealed?key=keyfile:k"\n' for n in range(8)
    )
    loaded = config(text)
    with Issuers() as issuers:
        fleet = Fleet(members(loaded.accounts.values(), issuers, config=loaded))
        assert {outcome.report.state for outcome in fleet.rotate()} == {"done"}
    tokens = set()
    for account in loaded.accounts.values():
        with open_store(account.token) as store:
            tokens.add(store.get().reveal())
    assert len(tokens) == 8
    assert cmzon_emulator.stats()["tokens"]["live"] == 9
