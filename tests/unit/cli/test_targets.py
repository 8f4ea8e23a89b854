"""Which token is meant, and whose word counts: option, account, environment, default."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from cmzon_secrets.cli.failures import UsageFailure
from cmzon_secrets.cli.targets import Target, answering, find_target, find_targets
from cmzon_secrets.errors import ConfigurationError, ReadOnlyProvider

OPTIONS = {"issuer": None, "admin": None, "base_url": None, "ca": None}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("CMZON_TOKEN_URI", "CMZON_SECRETS_CONFIG", "CMZON_ADMIN_URI", "CMZON_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def accounts(folder):
    (folder / "cmzon-secrets.toml").write_text(
        '[defaults]\nrotate_every = "10d"\n'
        '[accounts.acme]\ntoken = "env:ACME"\nadmin = "env:ACME_ADMIN"\nbase_url = "https://acme"\n'
        '[accounts.beta]\ntoken = "env:BETA"\nissuer = "manual"\ngrace = "48h"\n'
    )


def test_a_uri_given_is_taken_and_no_file_is_read(folder):
    (folder / "cmzon-secrets.toml").write_text("not toml")
    assert find_target("env:T", None).uri == "env:T"


def test_a_uri_given_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("CMZON_TOKEN_URI", "env:OTHER")
    assert find_target("env:T", None).uri == "env:T"
    assert find_target(None, None).uri == "env:OTHER"


def test_an_account_named_wins_over_the_environment(accounts, monkeypatch):
    monkeypatch.setenv("CMZON_TOKEN_URI", "env:OTHER")
    assert find_target(None, "acme").uri == "env:ACME"


@pytest.mark.parametrize("uris", [("acme",), ("env:T", "acme")], ids=["alone", "among others"])
def test_the_name_of_an_account_where_a_uri_belongs_is_told_as_what_it_is(accounts, uris):
    with pytest.raises(UsageFailure, match="the name of an account") as caught:
        find_targets(uris, None)
    assert caught.value.hint == "did you mean --account acme?"


@pytest.mark.parametrize("written", ["not toml", "[accounts.beta]\ntoken = 'env:B'\n"])
def test_another_word_is_none_of_the_files_business(folder, written):
    (folder / "cmzon-secrets.toml").write_text(written)
    assert find_target("acme", None).uri == "acme"  # which whoever opens it refuses


def test_an_account_and_another_uri_are_refused(accounts):
    assert find_target("env:ACME", "acme").account == "acme"
    with pytest.raises(click.UsageError, match="two different places"):
        find_target("env:OTHER", "acme")


@pytest.fixture
def chain(folder):
    (folder / "cmzon-secrets.toml").write_text(
        '[accounts.acme]\ntoken = ["env:FIRST", "env:SECOND"]\non_outage = true\ngrace = "48h"\n'
    )


def test_an_account_may_have_a_chain_to_read_from(chain, monkeypatch, capsys):
    monkeypatch.setenv("SECOND", "cmz_second")
    monkeypatch.delenv("FIRST", raising=False)
    target = find_target(None, "acme")
    assert (target.uris, target.on_outage) == (("env:FIRST", "env:SECOND"), True)
    with target.open_provider() as provider:
        assert provider.get().reveal() == "cmz_second"
        assert answering(provider).uri == "env:SECOND"
    assert capsys.readouterr().err == "passed over: env:FIRST has no token\n"


def test_a_chain_is_not_written(chain):
    with pytest.raises(ReadOnlyProvider, match="chain of 2 places") as caught:
        find_target(None, "acme").open_store()
    assert "--account acme" in caught.value.hint


def test_a_link_named_with_its_account_is_that_one_place(chain):
    target = find_target("env:SECOND", "acme")
    assert (target.uri, target.uris, target.on_outage) == ("env:SECOND", ("env:SECOND",), False)
    assert target.policy({}).grace == timedelta(hours=48)


def test_a_uri_that_is_no_link_is_refused(chain):
    with pytest.raises(click.UsageError, match="two different places"):
        find_target("env:THIRD", "acme")


def test_nothing_named_is_refused_even_where_one_account_is_known(folder):
    (folder / "cmzon-secrets.toml").write_text('[accounts.a]\ntoken = "env:A"\n')
    with pytest.raises(click.UsageError, match="no URI is given"):
        find_target(None, None)


def test_an_account_without_a_file_says_where_it_was_looked_for():
    with pytest.raises(ConfigurationError, match=r"cmzon-secrets\.toml — there is none"):
        find_target(None, "acme")


def test_status_of_nothing_in_particular_is_of_every_account(accounts, monkeypatch):
    assert [target.account for target in find_targets((), None)] == ["acme", "beta"]
    assert [target.uri for target in find_targets(("env:X", "env:Y"), None)] == ["env:X", "env:Y"]
    monkeypatch.setenv("CMZON_TOKEN_URI", "env:OTHER")
    assert [target.uri for target in find_targets((), None)] == ["env:OTHER"]


def test_status_without_anything_to_look_at_is_refused():
    with pytest.raises(click.UsageError, match="no URI is given"):
        find_targets((), None)


def test_an_option_wins_over_the_account_and_that_over_the_defaults(accounts):
    beta = find_target(None, "beta")
    assert beta.policy({}).grace == timedelta(hours=48)
    assert beta.policy({}).rotate_every == timedelta(days=10)
    chosen = beta.policy({"grace": timedelta(hours=30), "scopes": ("whatsapp_business",)})
    assert (chosen.grace, chosen.name) == (timedelta(hours=30), "beta")
    assert chosen.scopes == ("whatsapp_business",)


def test_a_bare_uri_has_the_policy_of_the_options_only():
    policy = Target("env:T").policy({"name": "mine", "allow_gap": True})
    assert (policy.name, policy.allow_gap) == ("mine", True)
    assert Target("env:T").policy({}).name == "cmzon-secrets"


def test_the_admin_of_the_account_wins_over_the_environment(accounts, monkeypatch):
    monkeypatch.setenv("CMZON_ADMIN_URI", "env:ELSEWHERE")
    target = find_target(None, "acme")
    assert target.admin_uri(OPTIONS) == "env:ACME_ADMIN"
    assert target.admin_uri({**OPTIONS, "admin": "env:GIVEN"}) == "env:GIVEN"
    assert Target("env:T").admin_uri(OPTIONS) == "env:ELSEWHERE"


def test_an_account_that_is_rotated_by_hand_needs_no_admin(accounts):
    issuer = find_target(None, "beta").open_issuer(OPTIONS)
    assert issuer.interactive
    issuer.close()


def test_an_issuer_without_its_admin_says_what_to_give():
    with pytest.raises(ConfigurationError, match="no admin token"):
        Target("env:T").open_issuer(OPTIONS)
