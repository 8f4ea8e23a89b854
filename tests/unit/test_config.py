"""The configuration file: what it may hold, and where an error points to."""

from __future__ import annotations

import os
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import config
from cmzon_secrets.config import account_from_environment, find_config, load_config
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError
from cmzon_secrets.rotation import RotationPolicy

CONTRACT_EXAMPLE = """\
base_url = "https://api.cmzon.com"                     # optional
admin    = "awssecretsmanager://prod/cmzon-admin"      # optional: default for accounts

[defaults]                                             # any field of RotationPolicy
rotate_every = "30d"

[accounts.acme]
token  = "awssecretsmanager://prod/acme"               # where the token lives
issuer = "cmzon"                                       # cmzon (default) | manual | oauth
scopes = ["messages:send"]
grace  = "24h"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.delenv("CMZON_SECRETS_CONFIG", raising=False)

    def write(text: str | bytes, name: str = "cmzon-secrets.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    return caught.value


def test_the_example_of_the_documentation_is_read_as_it_says(write):
    acme = load_config(write(CONTRACT_EXAMPLE)).account("acme")
    assert (acme.token, acme.issuer) == ("awssecretsmanager://prod/acme", "cmzon")
    assert acme.admin == "awssecretsmanager://prod/cmzon-admin"
    assert acme.base_url == "https://api.cmzon.com"
    assert acme.policy == {
        "name": "acme",
        "rotate_every": timedelta(days=30),
        "scopes": ("messages:send",),
        "grace": timedelta(hours=24),
    }


def test_what_an_account_says_wins_over_the_defaults_and_the_top(write):
    text = CONTRACT_EXAMPLE + 'rotate_every = 90\nadmin = "env:OWN"\nbase_url = "https://eu"\n'
    acme = load_config(write(text)).account("acme")
    assert acme.policy["rotate_every"] == timedelta(seconds=90)
    assert (acme.admin, acme.base_url) == ("env:OWN", "https://eu")


def test_an_account_may_name_its_tokens_otherwise_than_itself(write):
    path = write('[accounts.acme]\ntoken = "env:T"\nname = "acme-eu"\n')
    assert load_config(path).account("acme").policy["name"] == "acme-eu"


def test_accounts_keep_the_order_of_the_file(write):
    names = ["zulu", "alpha", "mike"]
    text = "".join(f'[accounts.{name}]\ntoken = "env:T"\n' for name in names)
    assert list(load_config(write(text)).accounts) == names


def test_every_field_of_a_policy_can_be_written_down():
    policy = {field.name for field in fields(RotationPolicy)}
    assert {*config._POLICY, "name"} == policy


def test_a_policy_can_be_made_of_what_was_read(write):
    path = write(
        '[accounts.a]\ntoken = "env:T"\nscopes = ["messages:send"]\nrotate_every = "10d"\n'
        'expires_in = "60d"\ngrace = "24h"\nrenew_before = "30h"\nreader_ttl = 60\n'
        'request_deadline = "30s"\nrevoke_limit = "7d"\norphan_age = "1h"\n'
        'allowed_ips = ["127.0.0.1"]\nallow_gap = true\n'
    )
    policy = RotationPolicy(**load_config(path).account("a").policy)
    assert policy.renew_before == timedelta(hours=30)
    assert policy.allow_gap


# ── what is refused, and where ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('base_ulr = "https://x"\n', 1, ["'base_ulr'", "did you mean 'base_url'?"]),
        ('\n# note\n[defaults]\nrotate_evry = "3d"\n', 4, ["did you mean 'rotate_every'?"]),
        ('[accounts.a]\ntoken = "env:T"\n\ntokn = "env:T"\n', 4, ["did you mean 'token'?"]),
        ('[accounts.a]\ntoken = "env:T"\n[accounts.b]\ntoken = "env:T"\nx = 1\n', 5, ["'x'"]),
        ('[accounts.a]\ntoken = "env:T"\n[accounts.b]\nx = 1\n', 4, ["'x'"]),
        ('accounts = { a = { token = "env:T", tokn = 1 } }\n', 1, ["'tokn'"]),
        ('[accounts]\na.token = "env:T"\na.grce = "3d"\n', 3, ["did you mean 'grace'?"]),
        ('[accounts.a]\ntoken = "env:T"\nscopes = [\n  "a",\n  1,\n]\n', 3, ["a list of strings"]),
        ('[accounts.a]\ntoken = "env:T"\nscopes = "a"\n', 3, ["a list of strings"]),
        ('[accounts.a]\ntoken = "env:T"\ngrace = "soon"\n', 3, ["grace must be a duration"]),
        ('[accounts.a]\ntoken = "env:T"\ngrace = -1\n', 3, ["grace must be a duration"]),
        ('[accounts.a]\ntoken = "env:T"\nallow_gap = 1\n', 3, ["allow_gap must be true or false"]),
        ("[accounts.a]\ntoken = 5\n", 2, ["token must be a string"]),
        ('[accounts.a]\ntoken = "no uri at all"\n', 2, ["token: it does not begin with a scheme"]),
        ('[accounts.a]\ntoken = "file:t?password=x"\n', 2, ["token: ", "is a credential"]),
        ('[accounts.a]\ntoken = "file:~/t"\n', 2, ["token: a ~ in front is not your home"]),
        ('[accounts.a]\ntoken = "file:t?key=keyfile:~/k"\n', 2, ["token: a ~ in front"]),
        ('\nadmin = "none"\n', 2, ["admin: it does not begin with a scheme"]),
        ("[accounts.a]\ntoken = []\n", 2, ["token must be a URI, or a list of different URIs"]),
        ('[accounts.a]\ntoken = ["env:T", "env:T"]\n', 2, ["a list of different URIs"]),
        ('[accounts.a]\ntoken = ["env:T", 5]\n', 2, ["token must be a list of strings"]),
        ('[accounts.a]\ntoken = ["env:T", "none"]\n', 2, ["token: it does not begin"]),
        ('[accounts.a]\ntoken = "env:T"\non_outage = true\n', 3, ["on_outage needs a list"]),
        ('[accounts.a]\ntoken = ["env:T"]\non_outage = 1\n', 3, ["true or false"]),
        ('[accounts.a]\nadmin = ["env:T"]\n', 2, ["admin must be a string"]),
        ('[accounts.a]\nissuer = "manual"\n', 1, ["account 'a' has no token"]),
        ("[accounts]\na = 5\n", 2, ["'a' must be a table"]),
        ("defaults = 5\n", 1, ["'defaults' must be a table"]),
        ('[defaults]\nname = "x"\n', 2, ["unknown key 'name'"]),
        ('[defaults]\ntoken = "env:T"\n', 2, ["unknown key 'token'"]),
        ("[accounts.a\n", 1, ["not valid TOML"]),
        ("a = 1\nb = unquoted\n", 2, ["not valid TOML"]),
    ],
)
def test_an_error_names_the_line_and_what_is_meant(write, text, line, words):
    path = write(text)
    error = refusal(path)
    assert error.message.startswith(f"{path}:{line} — ")
    for word in words:
        assert word in error.message


def test_what_is_no_toml_has_the_remedy_of_its_line(write):
    assert "both brackets" in refusal(write("[accounts.a\n")).hint
    assert "with the quotes" in refusal(write("[accounts.a]\ntoken = env:T\n")).hint


def test_an_unknown_key_lists_the_valid_ones(write):
    error = refusal(write("[defaults]\nnonsense = 1\n"))
    assert error.hint is not None
    assert "rotate_every" in error.hint
    assert "did you mean" not in error.message


def test_a_value_pasted_without_quotes_is_not_repeated(write):
    error = refusal(write("[accounts.a]\ntoken = cmz_SECRETSECRETSECRET\n"))
    assert "SECRET" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    "text",
    [
        '[accounts.a]\ntoken = "cmz_SECRETSECRETSECRET"\n',
        '[accounts.a]\ntoken = "env:T"\nadmin = "cmz_SECRETSECRETSECRET"\n',
        "[accounts.a]\ncmz_SECRETSECRETSECRET = 1\n",
        "[accounts]\ncmz_SECRETSECRETSECRET = 1\n",
    ],
)
def test_a_token_in_the_place_of_its_uri_or_of_a_name_is_not_repeated(write, text):
    error = refusal(write(text))
    assert "SECRET" not in f"{error.message} {error.hint}"


def test_a_token_in_the_variable_that_names_the_file_is_not_repeated(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMZON_SECRETS_CONFIG", "cmz_SECRETSECRETSECRET")
    path = find_config()
    assert path is not None
    assert "SECRET" not in refusal(path).message


def test_the_line_is_found_quickly_in_a_file_of_many_accounts(write):
    text = "".join(f'[accounts.a{n}]\ntoken = "env:T"\n' for n in range(2000))
    path = write(text + "wrong = 1\n")
    assert refusal(path).message.startswith(f"{path}:4001 — ")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff\xfe", "not UTF-8"), (b"#" * (config.MAX_CONFIG_BYTES + 1), "longer than")],
)
def test_a_file_that_cannot_be_ours_is_refused(write, content, why):
    assert why in refusal(write(content)).message


def test_a_missing_file_says_which_variable_names_it(tmp_path):
    error = refusal(tmp_path / "none.toml")
    assert "no such file" in error.message.lower()
    assert "CMZON_SECRETS_CONFIG" in (error.hint or "")


def test_an_unknown_account_lists_those_there_are(write):
    loaded = load_config(write(CONTRACT_EXAMPLE))
    with pytest.raises(ConfigurationError) as caught:
        loaded.account("acne")
    assert "'acne'" in caught.value.message
    assert "acme" in (caught.value.hint or "")


@given(st.text())
def test_any_text_is_either_read_or_refused_in_our_words(text):
    path, refused = Path("x.toml"), "x.toml"
    try:
        config._Reader(path, text).config(config._parse(path, text))
    except CMzonSecretsError as error:
        refused = error.message
    assert refused.startswith("x.toml")


# ── where it is looked for ──────────────────────────────────────────────────────────────────────


def test_it_is_found_from_the_working_folder_upward(write, tmp_path, monkeypatch):
    path = write("")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_config() == path


def test_the_nearest_one_is_taken(write, tmp_path):
    write("")
    below = tmp_path / "a"
    below.mkdir()
    nearer = below / "cmzon-secrets.toml"
    nearer.touch()
    assert find_config(below) == nearer


def test_the_variable_wins_over_what_is_found(write, monkeypatch, tmp_path):
    write("")
    monkeypatch.setenv("CMZON_SECRETS_CONFIG", "/elsewhere.toml")
    assert find_config(tmp_path) == Path("/elsewhere.toml")


def test_one_that_anybody_may_write_is_refused_unless_it_was_named(write, monkeypatch, tmp_path):
    path = write("")
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="anybody may write to it") as caught:
        find_config(tmp_path)
    assert caught.value.hint == f"chmod go-w {path}"
    monkeypatch.setenv("CMZON_SECRETS_CONFIG", str(path))
    assert find_config(tmp_path) == path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_one_that_another_user_owns_is_refused(write, tmp_path):
    os.chown(write(""), 12345, 12345)
    with pytest.raises(ConfigurationError, match="another user owns it"):
        find_config(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_one_that_another_users_link_brought_here_is_refused(write, tmp_path):
    ours = write("").rename(tmp_path / "ours.toml")
    link = tmp_path / "cmzon-secrets.toml"
    link.symlink_to(ours)
    os.lchown(link, 12345, 12345)
    with pytest.raises(ConfigurationError, match="another user owns it"):
        find_config(tmp_path)


# ── paths in it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("file:t.sealed", "file:{here}/t.sealed"),
        ("file:t.sealed?key=keyfile:t.key", "file:{here}/t.sealed?key=keyfile:{here}/t.key"),
        ("file:/abs?key=keyfile:/k", "file:/abs?key=keyfile:/k"),
        ("file:t?key=env:KEY", "file:{here}/t?key=env:KEY"),
        ("file:t?key=passphrase:", "file:{here}/t?key=passphrase:"),
        ("env:TOKEN", "env:TOKEN"),
        ("vault://m/p?auth=token", "vault://m/p?auth=token"),
    ],
)
def test_file_paths_are_relative_to_the_file_they_stand_in(write, tmp_path, written, meant):
    loaded = load_config(write(f'[accounts.a]\ntoken = "{written}"\nadmin = "{written}"\n'))
    account = loaded.account("a")
    assert account.token == account.admin == meant.format(here=tmp_path)


def test_a_token_may_be_a_chain_whose_links_are_anchored_too(write, tmp_path):
    text = '[accounts.a]\ntoken = ["env:T", "file:t.sealed"]\non_outage = true\n'
    account = load_config(write(text)).account("a")
    assert account.token == ("env:T", f"file:{tmp_path}/t.sealed")
    assert account.on_outage


def test_a_chain_does_not_go_on_through_an_outage_unless_it_says_so(write):
    account = load_config(write('[accounts.a]\ntoken = ["env:T", "env:U"]\n')).account("a")
    assert not account.on_outage
    assert "on_outage" not in account.policy


def test_a_folder_with_odd_characters_survives_in_the_uri(tmp_path):
    folder = tmp_path / "a b?c&d%41"
    folder.mkdir()
    path = folder / "cmzon-secrets.toml"
    path.write_text('[accounts.a]\ntoken = "file:t?key=keyfile:k"\n')
    from cmzon_secrets.uri import parse

    location = parse(load_config(path).account("a").token, schemes=["file"])
    assert location.path == f"{folder}/t"
    assert parse(location.options["key"], schemes=["keyfile"]).path == f"{folder}/k"


# ── from the environment ────────────────────────────────────────────────────────────────────────


def test_an_account_can_stand_in_the_environment():
    account = account_from_environment(
        {
            "CMZON_TOKEN_URI": "awssecretsmanager://prod/acme",
            "CMZON_ADMIN_URI": "env:ADMIN",
            "CMZON_BASE_URL": "https://api.example.com",
            "CMZON_ROTATION_NAME": "acme",
            "CMZON_ROTATION_ROTATE_EVERY": "7d",
            "CMZON_ROTATION_GRACE": "3600",
            "CMZON_ROTATION_SCOPES": "messages:send, audit:read",
            "CMZON_ROTATION_ALLOW_GAP": "true",
            "OTHER": "x",
        }
    )
    assert (account.name, account.token) == ("acme", "awssecretsmanager://prod/acme")
    assert (account.admin, account.base_url) == ("env:ADMIN", "https://api.example.com")
    policy = RotationPolicy(**account.policy)
    assert (policy.rotate_every, policy.grace) == (timedelta(days=7), timedelta(hours=1))
    assert policy.scopes == ("messages:send", "audit:read")
    assert policy.allow_gap


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("CMZON_ROTATION_ROTATE_EVRY", "7d", "did you mean 'CMZON_ROTATION_ROTATE_EVERY'"),
        ("CMZON_ROTATION_GRACE", "soon", "CMZON_ROTATION_GRACE — it must be"),
        ("CMZON_ROTATION_ALLOW_GAP", "yes", "CMZON_ROTATION_ALLOW_GAP — it must be true or false"),
        ("CMZON_ROTATION_SCOPES", ",", "CMZON_ROTATION_SCOPES — it must be a list"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused_by_name(variable, value, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        account_from_environment({variable: value})


# ── many accounts ───────────────────────────────────────────────────────────────────────────────


def test_a_loaded_file_knows_the_line_of_each_account(write):
    path = write(
        'base_url = "https://x"\n\n[accounts.a]\ntoken = "env:T"\n[accounts.b]\ntoken = "env:U"\n'
    )
    loaded = load_config(path)
    assert (loaded.where("a"), loaded.where("b")) == (f"{path}:3", f"{path}:5")


def test_ten_thousand_accounts_can_be_loaded(write):
    text = "".join(
        f'[accounts.account-{n:05}]\ntoken = "awssecretsmanager://production/cmzon/account-{n:05}"\n'
        for n in range(10_000)
    )
    assert len(load_config(write(text)).accounts) == 10_000
