"""Calls to Key Vault: which vault, one session, one deadline, and what each answer means."""

import os
import sys
import threading
from datetime import UTC, datetime

import pytest

from cmzon_secrets import errors
from cmzon_secrets.clouds import azure
from cmzon_secrets.clouds.azure import Refused, Vault, name_of
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.uri import split
from servers.key_vault import OWNER, Fault

URI = "azurekeyvault://vault/secrets/token"


@pytest.fixture
def vault(key_vault):
    return key_vault.vault()


@pytest.fixture
def ours(vault):
    """The vault as its owner."""
    return Vault(vault.host, Login("managed", client_id=OWNER))


@pytest.fixture
def calls(ours):
    return ours.begin(URI)


@pytest.fixture
def stored(calls):
    """A secret is there."""
    calls.ask(calls.secrets.set_secret, "token", "value")


@pytest.fixture
def refusing(vault):
    """``refusing(status, code, inner, …)``: each next request; returns the list of those requests."""

    def refuse(status, code="", inner=None, *, times=100, message="", **headers):
        asked = []
        fault = Fault(status, code, message, inner=inner, headers=headers)
        vault.refuse(fault, times=times, only=lambda *request: asked.append(request) or True)
        return asked

    return refuse


# which vault


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("azurekeyvault://contoso/secrets/token", "contoso.vault.azure.net"),
        ("azurekeyvault://Contoso-2/secrets/token", "contoso-2.vault.azure.net"),
        ("azurekeyvault://contoso.vault.azure.net/secrets/token", "contoso.vault.azure.net"),
        ("azurekeyvault://contoso.vault.azure.cn/secrets/token", "contoso.vault.azure.cn"),
        (
            "azurekeyvault://contoso.vault.usgovcloudapi.net/secrets/token",
            "contoso.vault.usgovcloudapi.net",
        ),
        (
            "azurekeyvault://contoso.vault.local.azurestack.external/secrets/token"
            "?credential=client-secret&authority=login.local.azurestack.external",
            "contoso.vault.local.azurestack.external",
        ),
    ],
)
def test_a_vault_is_named_by_its_name_or_its_host(uri, host):
    assert Vault.from_location(split(uri), "secrets").host == host


@pytest.mark.parametrize(
    "uri",
    [
        "azurekeyvault://contoso/secrets/token",
        "azurekeyvault://contoso.vault.azure.cn/secrets/a-b?credential=managed&client_id=1-2",
        "azurekeyvault://contoso/secrets/token?credential=client-secret&tenant_id=contoso.com",
    ],
)
def test_a_uri_says_the_same_when_it_is_written_again(uri):
    location = split(uri)
    vault = Vault.from_location(location, "secrets")
    assert vault.uri("secrets", name_of(location, "secrets")) == uri


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("azurekeyvault:contoso/secrets/token", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault://contoso", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault://contoso/token", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault://contoso/keys/token", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault://contoso/secrets/token/0123", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault:///secrets/token", "azurekeyvault://VAULT/secrets/NAME"),
        ("azurekeyvault://ab/secrets/token", "3 to 24 letters"),
        ("azurekeyvault://a--b/secrets/token", "3 to 24 letters"),
        ("azurekeyvault://1contoso/secrets/token", "3 to 24 letters"),
        (f"azurekeyvault://{'a' * 25}/secrets/token", "3 to 24 letters"),
        ("azurekeyvault://con_toso/secrets/token", "3 to 24 letters"),
        ("azurekeyvault://contoso.example.com/secrets/token", "not below .vault.azure.net"),
        ("azurekeyvault://contoso.vault.azure.net.evil.example/secrets/token", "not below"),
        ("azurekeyvault://contoso.vault.azure.net:8443/secrets/token", "3 to 24 letters"),
    ],
)
def test_a_uri_that_names_no_vault_is_refused(uri, word):
    with pytest.raises(errors.InvalidURI, match=word):
        Vault.from_location(split(uri), "secrets")


@pytest.mark.parametrize("name", ["under_score", "a.b", "a%20b", "ä", "a" * 128, "a%2Fb"])
def test_a_name_that_key_vault_forbids_is_refused(name):
    with pytest.raises(errors.InvalidURI, match=r"letters, digits and hyphens|VAULT/secrets/NAME"):
        name_of(split(f"azurekeyvault://contoso/secrets/{name}"), "secrets")


# what an answer means

ROLES = "doctor --policy"


@pytest.mark.parametrize(
    ("status", "code", "inner", "kind", "words"),
    [
        (403, "Forbidden", "SecretDisabled", errors.AccessDenied, "disabled"),
        (403, "Forbidden", "KeyDisabled", errors.AccessDenied, "disabled"),
        (403, "Forbidden", "ForbiddenByRbac", errors.AccessDenied, "lacks a right"),
        (403, "Forbidden", "AccessDenied", errors.AccessDenied, "set-policy"),
        (403, "Forbidden", "ForbiddenByFirewall", errors.AccessDenied, "network rules"),
        (403, "Forbidden", "ForbiddenByConnection", errors.AccessDenied, "private endpoint"),
        (403, "Forbidden", "SomethingNew", errors.AccessDenied, "403 SomethingNew"),
        (403, "", None, errors.AccessDenied, ROLES),
        (404, "SecretNotFound", None, errors.TokenNotFound, "az keyvault secret recover"),
        (404, "KeyNotFound", None, errors.ConfigurationError, "az keyvault key create"),
        (404, "", None, errors.ConfigurationError, "right vault"),
        (409, "Conflict", "ObjectIsDeletedButRecoverable", errors.TokenNotFound, "recover"),
        (400, "BadParameter", None, errors.ConfigurationError, "400 BadParameter"),
        (302, "", None, errors.ProviderUnavailable, "redirect"),
        (500, "InternalServerError", None, errors.ProviderUnavailable, "500"),
        (503, "", None, errors.ProviderUnavailable, "Key Vault failed"),
    ],
)
def test_each_answer_has_one_meaning(
    status, code, inner, kind, words, calls, stored, refusing, vault
):
    refusing(status, code, inner, Location="https://elsewhere.example/")
    with pytest.raises(errors.CMzonSecretsError) as caught:
        calls.ask(calls.secrets.get_secret, "token")
    error = caught.value
    assert type(error) is kind
    assert error.message.startswith(f"{URI} — ")
    assert words in f"{error.message} {error.hint}"
    assert error.message.isprintable()
    assert error.retryable is (kind is errors.ProviderUnavailable)
    assert error.__cause__ is not None


def test_a_missing_right_is_named(vault, calls):
    stranger = Vault(vault.host, Login("managed", client_id="stranger")).begin(URI)
    with pytest.raises(errors.AccessDenied, match=r"vaults/secrets/getSecret/action"):
        stranger.ask(stranger.secrets.get_secret, "token")


def test_the_services_own_text_is_not_shown(calls, stored, refusing):
    refusing(403, "Forbidden\x1b[2J", message="value \x1b[31m of a token")
    with pytest.raises(errors.AccessDenied) as caught:
        calls.ask(calls.secrets.get_secret, "token")
    assert "value" not in caught.value.message
    assert caught.value.message.isprintable()


def test_an_expected_answer_is_handed_to_the_caller(calls):
    with pytest.raises(Refused) as caught:
        calls.ask(calls.secrets.get_secret, "absent", expecting={"SecretNotFound"})
    assert (caught.value.status, caught.value.code) == (404, "SecretNotFound")


def test_a_404_of_somebody_else_is_not_taken_for_an_absent_secret(calls, stored, refusing):
    refusing(404, "")
    with pytest.raises(errors.ConfigurationError):
        calls.ask(calls.secrets.get_secret, "token", expecting={"SecretNotFound"})


def test_the_innermost_code_counts(calls, stored, vault):
    fault = Fault(403, "Forbidden", "")
    deep = {"code": "Outer", "innererror": {"code": "SecretDisabled"}}
    fault.body["error"]["innererror"] = deep
    vault.refuse(fault)
    with pytest.raises(errors.AccessDenied, match="disabled"):
        calls.ask(calls.secrets.get_secret, "token")


# asking again


@pytest.mark.slow
def test_throttling_is_waited_out(calls, stored, refusing):
    asked = refusing(429, "Throttled", times=3)
    calls.ask(calls.secrets.get_secret, "token")
    assert len(asked) == 3


@pytest.mark.parametrize("inner", ["ObjectIsBeingRecovered", "ObjectIsBeingDeleted"])
def test_a_transition_is_waited_out_by_a_write_too(calls, stored, refusing, inner):
    refusing(409, "Conflict", inner, times=2)
    calls.ask(calls.secrets.set_secret, "token", "new", repeat=False)
    assert calls.ask(calls.secrets.get_secret, "token").value == "new"


@pytest.mark.slow
def test_retry_after_is_obeyed(calls, stored, refusing):
    began = datetime.now(UTC)
    refusing(429, "Throttled", times=1, **{"Retry-After": "1"})
    calls.ask(calls.secrets.get_secret, "token")
    assert (datetime.now(UTC) - began).total_seconds() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("after", ["60", "0", "soon"])
def test_throttling_without_end_is_told_as_such(ours, calls, stored, refusing, after):
    asked = refusing(429, "Throttled", **{"Retry-After": after})
    short = ours.begin(URI, timeout=1.0)
    with pytest.raises(errors.ProviderUnavailable, match="throttles"):
        short.ask(short.secrets.get_secret, "token")
    assert 1 <= len(asked) <= 12


def test_a_read_is_repeated_a_few_times(calls, stored, refusing):
    asked = refusing(503, "")
    with pytest.raises(errors.ProviderUnavailable):
        calls.ask(calls.secrets.get_secret, "token")
    assert len(asked) == 3


def test_a_write_without_an_id_of_its_own_is_sent_once(calls, stored, vault, refusing):
    asked = refusing(503, "", times=1)
    with pytest.raises(errors.ProviderUnavailable):
        calls.ask(calls.secrets.set_secret, "token", "new", repeat=False)
    assert len(asked) == 1


def test_a_write_whose_answer_was_lost_leaves_one_version(calls, stored, vault):
    vault.lose()
    with pytest.raises(errors.ProviderUnavailable, match="no answer"):
        calls.ask(calls.secrets.set_secret, "token", "new", repeat=False)
    assert sum(exchange.method == "PUT" for exchange in vault.traffic) == 2


def test_a_read_whose_answer_was_lost_is_repeated(calls, stored, vault):
    vault.lose()
    assert calls.ask(calls.secrets.get_secret, "token").value == "value"


# no answer


def test_a_slow_answer_is_not_waited_for_after_the_deadline(ours, calls, stored, vault):
    vault.delay(30, times=9)
    short = ours.begin(URI, timeout=0.5)
    with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
        short.ask(short.secrets.get_secret, "token")
    vault.mend()


@pytest.mark.slow
def test_all_calls_of_a_verb_share_one_deadline(ours, calls, stored, vault):
    short = ours.begin(URI, timeout=1.0)
    vault.delay(0.4, times=9)
    short.ask(short.secrets.get_secret, "token")

    def more():
        return [short.ask(short.secrets.get_secret, "token") for _ in range(9)]

    with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
        more()
    vault.mend()


def test_a_vault_that_nobody_knows(key_vault, monkeypatch):
    import socket

    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("urllib3.util.connection.create_connection", unknown)
    calls = Vault("nobody.vault.azure.net", Login("managed", client_id=OWNER)).begin(URI)
    with pytest.raises(errors.ProviderUnavailable, match="name is not known") as caught:
        calls.ask(calls.secrets.get_secret, "token")
    assert caught.value.hint == "is the vault's name right?"


def test_a_vault_that_refuses_connections(key_vault):
    calls = Vault("down-1.vault.azure.net", Login("managed", client_id=OWNER)).begin(URI)
    with pytest.raises(errors.ProviderUnavailable, match="no connection"):
        calls.ask(calls.secrets.get_secret, "token")


def test_a_certificate_that_is_not_trusted(vault, monkeypatch, entra):
    calls = Vault(vault.host, Login("managed", client_id=OWNER), str(entra.ca)).begin(URI)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(errors.ProviderUnavailable, match="REQUESTS_CA_BUNDLE"):
        calls.ask(calls.secrets.get_secret, "token")


def test_verify_names_the_ca_to_trust(key_vault, vault, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    calls = Vault(vault.host, Login("managed", client_id=OWNER), key_vault.ca).begin(URI)
    calls.ask(calls.secrets.set_secret, "token", "value")


def test_a_challenge_of_another_service_gets_no_token(key_vault, vault, ours, monkeypatch):
    issued = len(key_vault._tokens)
    real = key_vault.authenticate

    def elsewhere(authorization, host):
        try:
            return real(authorization, host)
        except Fault as fault:
            header = fault.headers["WWW-Authenticate"]
            fault.headers["WWW-Authenticate"] = header.replace(
                "vault.azure.net", "storage.azure.com"
            )
            raise

    monkeypatch.setattr(key_vault, "authenticate", elsewhere)
    calls = ours.begin(URI)
    with pytest.raises(errors.AccessDenied, match="another service"):
        calls.ask(calls.secrets.get_secret, "token")
    assert len(key_vault._tokens) == issued


def test_a_token_that_key_vault_does_not_take(key_vault, ours, monkeypatch):
    monkeypatch.setattr(key_vault, "authenticators", [])
    calls = ours.begin(URI)
    with pytest.raises(errors.AccessDenied, match="does not accept the token") as caught:
        calls.ask(calls.secrets.get_secret, "token")
    assert "tenant" in caught.value.hint


# sessions


def test_handles_of_one_vault_share_one_client(ours, vault):
    again = Vault(vault.host, Login("managed", client_id=OWNER))
    assert ours.begin(URI).secrets is again.begin(URI).secrets


def test_callers_do_not_share_a_client(ours, vault):
    other = Vault(vault.host, Login("managed", client_id="other"))
    assert ours.begin(URI).secrets is not other.begin(URI).secrets


def test_another_environment_is_another_client(ours, monkeypatch):
    before = ours.begin(URI).secrets
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "renewed")
    assert ours.begin(URI).secrets is not before


def test_a_read_after_the_first_is_one_request(ours, calls, stored, vault, key_vault):
    tokens, before = len(key_vault._tokens), len(vault.traffic)
    for _ in range(3):
        reading = ours.begin(URI)
        reading.ask(reading.secrets.get_secret, "token")
    assert len(vault.traffic) == before + 3
    assert len(key_vault._tokens) == tokens


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_client_of_its_own(ours, calls, stored):
    def value():
        reading = ours.begin(URI)
        return reading.ask(reading.secrets.get_secret, "token").value, id(reading.secrets)

    before = value()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found, client = value()
            os.write(
                writable, b"good" if (found, client != before[1]) == ("value", True) else b"bad"
            )
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as answer:
        assert answer.read() == b"good"
    os.waitpid(child, 0)
    assert value() == before


def test_many_threads_open_one_session(ours):
    azure._SESSIONS.clear()
    found, start = [], threading.Barrier(8)

    def begin():
        start.wait()
        found.append(ours.begin(URI).secrets)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in found}) == 1


@pytest.mark.parametrize(
    "module", ["azure.identity", "azure.keyvault.secrets", "azure.core.pipeline.transport"]
)
def test_a_missing_sdk_names_the_extra(vault, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    fresh = Vault(vault.host, Login("managed", client_id=f"without-{module}"))
    with pytest.raises(errors.ConfigurationError, match="not installed") as caught:
        fresh.begin(URI).secrets  # noqa: B018  # the property opens the client
    assert caught.value.hint == 'pip install "cmzon-secrets[azure]"'


# for an examination


def test_the_servers_clock_is_seen(calls, stored, vault):
    vault.skew = 3600
    calls.ask(calls.secrets.get_secret, "token")
    ahead = (calls.server_time - datetime.now(UTC)).total_seconds()
    assert 3590 < ahead < 3610


def test_the_credential_in_use_is_named(calls, stored):
    assert calls.credential == "credential=managed (ManagedIdentityCredential)"


# what is sent


def test_nothing_is_sent_after_the_verb_has_given_up(ours, vault, monkeypatch):
    """A token came too late: the caller may have written something else by then."""
    held, done = threading.Event(), threading.Event()
    real = azure.Credential.get_token_info

    def slow(*args, **kwargs):
        held.wait(20)
        return real(*args, **kwargs)

    def put(**hook):
        try:
            late.secrets.set_secret("token", "value", **hook)
        finally:
            done.set()

    monkeypatch.setattr(azure.Credential, "get_token_info", slow)
    late = ours.begin(URI, timeout=0.5)
    with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
        late.ask(put)
    held.set()
    assert done.wait(20)
    assert [e for e in vault.traffic if e.method == "PUT" and e.status != 401] == []


def test_a_time_that_is_up_does_not_hide_why(ours, calls, stored, refusing, vault):
    refusing(503, "", times=1)
    vault.delay(30)
    short = ours.begin(URI, timeout=2.0)
    with pytest.raises(errors.ProviderUnavailable, match="Key Vault failed"):
        short.ask(short.secrets.get_secret, "token")
    vault.mend()


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_a_missing_right_comes_with_a_command_that_can_be_typed(vault, role):
    uri = "azurekeyvault://contoso/secrets/token?credential=managed&client_id=1"
    stranger = Vault(vault.host, Login("managed", client_id="stranger")).begin(uri, role=role)
    with pytest.raises(errors.AccessDenied) as caught:
        stranger.ask(stranger.secrets.get_secret, "token")
    assert f"cmzon-secrets doctor --policy {role} '{uri}'" in caught.value.hint


STANZA = {"wrap": "RSA-OAEP-256", "wrapped": "A" * 342 + "=="}


@pytest.mark.parametrize(
    ("role", "use"),
    [
        ("reader", lambda store, _key, _stanza: store.get()),
        ("rotator", lambda store, _key, _stanza: store.versions()),
        ("rotator", lambda store, _key, _stanza: store.create()),
        ("reader", lambda _store, key, stanza: key.unwrap(stanza)),
        ("rotator", lambda _store, key, _stanza: key.wrap(bytes(32))),
    ],
)
def test_each_verb_names_the_role_that_it_needs(vault, ours, refusing, role, use):
    from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
    from cmzon_secrets.sealing_keys.azure_key import AzureKey

    refusing(403, "Forbidden", "ForbiddenByRbac")
    stanza = {**STANZA, "key": f"https://{vault.host}/keys/key/{'0' * 32}"}
    with pytest.raises(errors.AccessDenied, match="lacks a right") as caught:
        use(AzureKeyVault(ours, "token"), AzureKey(ours, "key"), stanza)
    assert f"--policy {role} 'azurekeyvault://{vault.name}/" in caught.value.hint
