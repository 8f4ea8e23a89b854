"""What `doctor` finds, as whom, and in which order; the place it looks at may be broken in any way."""

from datetime import timedelta

import pytest

from cmzon_secrets import Token, open_store
from cmzon_secrets.cli.checkup import Checkup
from cmzon_secrets.cli.targets import Target
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.examinations import environment
from cmzon_secrets.findings import Finding
from cmzon_secrets.providers.environment import EnvironmentVariable

OPTIONS = {"issuer": None, "admin": None, "base_url": None, "ca": None}
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
LEAST = Finding("permissions.least", "ok", "it may what a reader needs", "asked: all")
ORDER = [
    "configuration",
    "reachability",
    "credentials",
    "permissions",
    "key",
    "tls",
    "clock",
    "token",
    "api",
]


@pytest.fixture(scope="module")
def emulator():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path, emulator):
    for name in ("CMZON_TOKEN_URI", "CMZON_ADMIN_URI", "CMZON_SECRETS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CMZON_BASE_URL", emulator.base_url)
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setenv("ADMIN", emulator.admin_token)
    monkeypatch.chdir(tmp_path)


def checked(target, role="reader", *, offline=True, **options):
    if isinstance(target, str):
        target = Target(target)
    return Checkup(target, role, "a test says so", {**OPTIONS, **options}, offline).findings()


def severities(findings):
    return {finding.check: finding.severity for finding in findings}


def one(findings, check):
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def sealed(path, token="cmz_secret_value", **fields):
    uri = f"file:{path}?key=env:THE_KEY"
    with open_store(uri) as store:
        token = Token(token, **fields)
        store.stage(token)
        store.promote(token.id, replacing=None)
    return uri


# the order


def test_findings_stand_in_the_order_in_which_one_would_mend_them(tmp_path):
    found = checked(sealed(tmp_path / "t"), "rotator", offline=False, admin="env:ADMIN")
    groups = [finding.check.partition(".")[0] for finding in found]
    assert groups == sorted(groups, key=ORDER.index)
    assert {"configuration", "reachability", "permissions", "key", "token", "api"} <= set(groups)


def test_no_finding_holds_a_value(tmp_path, emulator):
    uri = sealed(tmp_path / "t")
    found = checked(uri, "rotator", offline=False, admin="env:ADMIN")
    for secret in ("cmz_secret_value", emulator.admin_token, KEY):
        assert secret not in repr(found)


def test_nothing_is_changed(tmp_path):
    uri = sealed(tmp_path / "t")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    checked(uri, "rotator", offline=False, admin="env:ADMIN")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_is_missing_is_not_made(tmp_path):
    found = checked(f"file:{tmp_path}/t?key=env:THE_KEY", "rotator")
    assert list(tmp_path.iterdir()) == []
    assert one(found, "reachability.token").severity == "warning"  # rotation makes one


# a place that cannot be read is a finding


@pytest.mark.parametrize(
    ("uri", "check", "words"),
    [
        ("env:NOT_SET", "reachability.token", "NOT_SET is not set"),
        ("env:SPACED", "token.value", "space"),
        ("vault:x", "configuration.place", "unknown scheme"),
        ("file:t?key=env:NO_KEY", "configuration.place", "NO_KEY"),
        ("file:t?key=env:OTHER_KEY", "key.opens", "does not open it"),
        ("file:t/below?key=env:THE_KEY", "configuration.place", "not a directory"),
    ],
)
def test_what_stands_in_the_way(tmp_path, monkeypatch, uri, check, words):
    sealed("t")
    monkeypatch.setenv("SPACED", "cmz_secret value")
    monkeypatch.setenv("OTHER_KEY", "bm90IHRoZSBrZXkgaXQgd2FzIHNlYWxlZCB3aXRoIDE=")
    finding = one(checked(uri, "rotator"), check)
    assert finding.severity in ("problem", "warning")
    assert words in finding.message
    assert "cmz_secret" not in repr(finding)


def test_what_stands_in_the_way_of_all_is_told_once(tmp_path):
    uri = sealed(tmp_path / "t")
    (tmp_path / "t").chmod(0o644)
    found = checked(uri, "rotator")
    assert sum("is open to other users" in finding.message for finding in found) == 1


def test_an_examination_of_somebody_else_that_fails_ends_nothing(monkeypatch, tmp_path):
    def broken(provider, role):
        raise RuntimeError(provider.get().reveal())

    monkeypatch.setattr(environment, "examine", broken)
    monkeypatch.setenv("THE_TOKEN", "cmz_secret_value")
    found = checked("env:THE_TOKEN")
    finding = one(found, "configuration.examination")
    assert (finding.severity, finding.evidence) == ("warning", "RuntimeError")
    assert "cmz_secret_value" not in repr(found)
    assert "token.expiry" in severities(found)


def test_who_cannot_read_is_not_told_that_he_has_what_he_needs(monkeypatch):
    monkeypatch.setattr(environment, "examine", lambda *_: iter([LEAST]))
    assert "permissions.least" not in severities(checked("env:NOT_SET"))
    monkeypatch.setenv("THE_TOKEN", "cmz_secret_value")
    assert "permissions.least" in severities(checked("env:THE_TOKEN"))


def test_a_service_that_does_not_answer_is_not_asked_again(monkeypatch):
    def silent(provider):
        raise ProviderUnavailable("env:THE_TOKEN — no answer within 10 s", uri=provider.uri)

    def examine(provider, role):
        yield Finding("tls.backend", "ok", "its certificate is verified", "here")
        raise AssertionError("it was asked again")

    monkeypatch.setattr(EnvironmentVariable, "get", silent)
    monkeypatch.setattr(environment, "examine", examine)
    found = severities(checked("env:THE_TOKEN"))
    assert (found["reachability.read"], found["tls.backend"]) == ("problem", "ok")
    assert found["permissions.unasked"] == "note"
    assert "configuration.examination" not in found


def test_a_package_that_an_examination_lacks_is_named(monkeypatch):
    def examine(provider, role):
        raise ModuleNotFoundError("No module named 'left_pad'", name="left_pad")

    monkeypatch.setattr(environment, "examine", examine)
    assert "left_pad" in one(checked("env:NOT_SET"), "configuration.examination").evidence


# the account


def test_a_policy_that_contradicts_itself_is_a_problem(monkeypatch):
    monkeypatch.setenv("THE_TOKEN", "cmz_secret_value")
    settings = {"name": "acme", "grace": timedelta(seconds=1)}
    finding = one(
        checked(Target("env:THE_TOKEN", account="acme", settings=settings)), "configuration.policy"
    )
    assert finding.severity == "problem"
    assert "grace" in finding.message


def test_age_is_held_against_the_accounts_own_policy(tmp_path):
    born = SYSTEM_CLOCK.now() - timedelta(days=3)
    uri = sealed(tmp_path / "t", issued_at=born)
    assert one(checked(uri), "token.age").severity == "ok"
    often = Target(
        uri, account="acme", settings={"name": "acme", "rotate_every": timedelta(days=2)}
    )
    assert one(checked(often), "token.age").severity == "warning"


def test_a_rotator_without_an_admin_token_is_told_so(tmp_path):
    finding = one(checked(sealed(tmp_path / "t"), "rotator"), "configuration.admin")
    assert finding.severity == "problem"
    assert "--admin" in finding.remedy


def test_a_rotator_by_hand_needs_none(tmp_path):
    found = checked(sealed(tmp_path / "t"), "rotator", issuer="manual")
    assert "configuration.admin" not in severities(found)


def test_an_admin_token_that_cannot_be_read_is_a_problem(tmp_path):
    found = checked(sealed(tmp_path / "t"), "rotator", admin="env:NOT_SET")
    assert one(found, "configuration.admin").severity == "problem"


def test_the_admin_token_is_asked_for_its_scope(tmp_path, emulator):
    uri = sealed(tmp_path / "t", emulator.admin_token)
    found = checked(uri, "rotator", offline=False, admin="env:ADMIN")
    assert one(found, "api.admin_token_scopes").severity == "ok"
    # … and a sending token that may do all this is too much
    assert one(found, "api.token_scopes").severity == "warning"


def test_an_account_of_admins_may_manage_tokens(tmp_path, emulator):
    uri = sealed(tmp_path / "t", emulator.admin_token)
    account = Target(uri, account="admin", settings={"name": "a", "scopes": ("tokens:manage",)})
    assert one(checked(account, offline=False), "api.token_scopes").severity == "ok"


def test_offline_asks_nobody_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CMZON_BASE_URL", "http://127.0.0.1:9")
    found = checked(sealed(tmp_path / "t"), "rotator", admin="env:ADMIN")
    assert one(found, "configuration.offline").severity == "note"
    assert not any(f.check.startswith(("api.", "reachability.api", "clock.api")) for f in found)


def test_a_base_url_that_cannot_be_is_a_problem(tmp_path):
    target = Target(sealed(tmp_path / "t"), base_url="http://example.com")
    found = checked(target, offline=False)
    assert one(found, "configuration.api").severity == "problem"


# a chain


def chain(*uris):
    return Target(uris, account="acme")


def test_each_link_is_examined_and_the_one_that_answers_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COPY", "cmz_secret_value")
    found = checked(chain(f"file:{tmp_path}/t?key=env:THE_KEY", "env:COPY"))
    assert one(found, "reachability.token").severity == "note"
    assert one(found, "reachability.token").message.startswith("link 1: ")
    assert one(found, "reachability.chain").message == "env:COPY answers"
    assert one(found, "permissions.visible").message.startswith("link 2: ")


def test_a_link_that_holds_an_older_token_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("COPY", "cmz_older_value")
    finding = one(checked(chain(sealed(tmp_path / "t"), "env:COPY")), "token.copy")
    assert finding.severity == "warning"
    assert finding.message.startswith("env:COPY holds another token")


def test_links_that_hold_the_same_token_are_well(tmp_path, monkeypatch):
    monkeypatch.setenv("COPY", "cmz_secret_value")
    found = checked(chain(sealed(tmp_path / "t"), "env:COPY"))
    assert "token.copy" not in severities(found)


def test_a_chain_without_any_token_is_a_problem():
    found = checked(chain("env:NOT_SET", "env:NEITHER"))
    assert one(found, "reachability.chain").severity == "problem"
