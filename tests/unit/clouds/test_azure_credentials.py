"""Each way to log in to Azure, end to end: azure-identity, the Entra double, the Key Vault double."""

import json
import logging

import pytest

from cmzon_secrets import errors
from cmzon_secrets.clouds import azure_credentials
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.testing.conformance.leaks import everything_logged, must_hide, shown
from servers.entra import TENANT, App, new_certificate

URI = "azurekeyvault://vault/secrets/token"
SECRET = "client-secret-of-the-rotator-0123456789"
EVERYTHING = {"DataActions": ["*"]}


@pytest.fixture
def entra(entra_before_key_vault):
    return entra_before_key_vault


@pytest.fixture
def vault(key_vault):
    return key_vault.vault()


@pytest.fixture
def ask(entra, vault):
    """``ask(login)``: read a secret as that caller; the name of the credential that was used."""

    def asked(login, *, timeout=10.0):
        login = Login(**{"authority": entra.authority, **login.options})
        calls = Vault(vault.host, login).begin(URI, timeout=timeout)
        calls.ask(calls.secrets.set_secret, "token", "value")
        return calls.credential

    return asked


@pytest.fixture
def app(entra, vault):
    """``app(…)``: an application that may do everything in the vault."""

    def new(**attributes):
        return allowed(entra.add(App(**attributes)))

    def allowed(application):
        vault.assign(application.client_id, json.dumps(EVERYTHING))
        return application

    new.allowed = allowed
    return new


@pytest.fixture
def federated(entra, tmp_path, monkeypatch):
    """A pod's token file."""
    path = tmp_path / "federated-token"
    path.write_text(entra.federated_token())
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(path))
    return path


def by_environment(monkeypatch, app, **more):
    for name, value in {"TENANT_ID": TENANT, "CLIENT_ID": app.client_id, **more}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)


# each of the five


def test_client_secret_of_the_environment_and_ids_of_the_uri(ask, app, monkeypatch):
    caller = app(secret=SECRET)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    used = ask(Login("client-secret", caller.client_id, TENANT))
    assert used == "credential=client-secret (ClientSecretCredential)"


def test_client_secret_with_all_in_the_environment(ask, app, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    ask(Login("client-secret"))


@pytest.mark.parametrize("password", [None, "pass word"])
def test_client_certificate(ask, app, monkeypatch, tmp_path, password):
    path = tmp_path / "rotator.pem"
    caller = app(certificate=new_certificate(path, password=password))
    by_environment(monkeypatch, caller, CLIENT_CERTIFICATE_PATH=str(path))
    if password:
        monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PASSWORD", password)
    ask(Login("client-certificate"))


def test_workload_identity(ask, app, federated, monkeypatch):
    by_environment(monkeypatch, app(federated=True))
    assert ask(Login("workload")) == "credential=workload (WorkloadIdentityCredential)"


def test_managed_identity_of_a_virtual_machine(ask, app, entra, monkeypatch):
    app.allowed(entra.managed)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    assert ask(Login("managed")) == "credential=managed (ManagedIdentityCredential)"


def test_managed_identity_that_is_user_assigned(ask, app, entra, monkeypatch):
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    ask(Login("managed", client_id=app().client_id))


def test_managed_identity_of_an_app_service(ask, app, entra, monkeypatch):
    app.allowed(entra.managed)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.host_endpoint}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", entra.identity_header)
    ask(Login("managed"))


def test_default_takes_the_environment_first(ask, app, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    assert ask(Login()) == "credential=default (EnvironmentCredential)"


def test_default_goes_on_to_workload_identity(ask, app, federated, monkeypatch):
    by_environment(monkeypatch, app(federated=True))
    assert ask(Login()) == "credential=default (WorkloadIdentityCredential)"


def test_default_goes_on_to_managed_identity(ask, app, entra, monkeypatch):
    app.allowed(entra.managed)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    assert ask(Login()) == "credential=default (ManagedIdentityCredential)"


def test_the_links_that_are_missing_are_no_warnings(ask, app, entra, monkeypatch, caplog):
    app.allowed(entra.managed)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    ask(Login())
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


# tokens do not live long


def test_a_token_near_its_end_is_renewed(ask, app, entra, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    entra.lifetime = 60
    issued = len(entra.issued)
    for _ in range(3):
        ask(Login("client-secret"))
    assert len(entra.issued) > issued + 1


def test_one_token_serves_many_calls(ask, app, entra, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    issued = len(entra.issued)
    for _ in range(3):
        ask(Login("client-secret"))
    assert len(entra.issued) == issued + 1


def test_a_renewed_secret_is_taken_without_a_restart(ask, app, entra, monkeypatch):
    caller = app(secret="old secret")
    by_environment(monkeypatch, caller, CLIENT_SECRET="old secret")
    ask(Login("client-secret"))
    issued = len(entra.issued)
    caller.secret = SECRET
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    ask(Login("client-secret"))
    assert len(entra.issued) == issued + 1  # and the token of the old one is used no more


def test_no_variable_of_azure_identity_is_overlooked():
    from azure.identity._constants import EnvironmentVariables

    theirs = {v for v in vars(EnvironmentVariables).values() if isinstance(v, str) and v.isupper()}
    unused = {name for name in theirs if name.startswith("AZURE_KUBERNETES_")}  # a proxy of tokens
    assert theirs - unused == set(azure_credentials._READ)


def test_a_renewed_certificate_is_taken_without_a_restart(ask, app, monkeypatch, tmp_path):
    path = tmp_path / "rotator.pem"
    caller = app(certificate=new_certificate(path, days=-1))
    by_environment(monkeypatch, caller, CLIENT_CERTIFICATE_PATH=str(path))
    with pytest.raises(errors.AccessDenied, match="AADSTS700027"):
        ask(Login("client-certificate"))
    caller.certificate = new_certificate(path)
    ask(Login("client-certificate"))


# what is refused


def refused(call, *, kind=errors.AccessDenied):
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert error.message.startswith(f"{URI} — credential=")
    assert error.uri == URI
    must_hide(f"{shown(error)} {error.hint}", SECRET)
    return error


def test_an_expired_secret_says_how_to_renew_it(ask, app, monkeypatch):
    caller = app(secret=SECRET)
    caller.secret_expired = True
    by_environment(monkeypatch, caller, CLIENT_SECRET=SECRET)
    error = refused(lambda: ask(Login("client-secret")))
    assert "AADSTS7000222" in error.message
    assert "az ad app credential reset" in error.hint


def test_a_wrong_secret_is_not_shown(ask, app, monkeypatch):
    by_environment(monkeypatch, app(secret="another"), CLIENT_SECRET=SECRET)
    error = refused(lambda: ask(Login("client-secret")))
    assert "AADSTS7000215" in error.message
    assert "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET" in error.message


def test_a_tenant_that_is_not_the_vaults(ask, app, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    monkeypatch.setenv("AZURE_TENANT_ID", "9f8e7d6c-0000-0000-0000-000000000000")
    error = refused(lambda: ask(Login("client-secret")))
    assert f"of another tenant, {TENANT}" in error.message
    assert "AZURE_TENANT_ID" in error.hint


@pytest.mark.parametrize("subject", ["system:serviceaccount:apps:other"])
def test_a_service_account_that_nobody_federated(ask, app, entra, federated, monkeypatch, subject):
    by_environment(monkeypatch, app(federated=True))
    federated.write_text(entra.federated_token(subject=subject))
    assert "subject" in refused(lambda: ask(Login("workload"))).hint


def test_a_token_file_that_is_gone(ask, app, federated, monkeypatch):
    by_environment(monkeypatch, app(federated=True))
    federated.unlink()
    assert "FileNotFoundError" in refused(lambda: ask(Login("workload"))).message


@pytest.mark.parametrize(
    ("credential", "missing"),
    [
        ("client-secret", "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET"),
        ("client-certificate", "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_CERTIFICATE_PATH"),
        ("workload", "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE"),
    ],
)
def test_what_is_not_set_is_named(ask, entra, credential, missing):
    assert f"not set: {missing}" in refused(lambda: ask(Login(credential))).message
    assert entra.asked == []


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_a_certificate_file_that_holds_none(ask, app, monkeypatch, tmp_path, content):
    path = tmp_path / "rotator.pem"
    path.write_bytes(content)
    by_environment(monkeypatch, app(), CLIENT_CERTIFICATE_PATH=str(path))
    refused(lambda: ask(Login("client-certificate")))


def test_a_certificate_with_another_password(ask, app, monkeypatch, tmp_path):
    path = tmp_path / "rotator.pem"
    caller = app(certificate=new_certificate(path, password="right"))
    by_environment(monkeypatch, caller, CLIENT_CERTIFICATE_PATH=str(path))
    monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PASSWORD", SECRET)
    refused(lambda: ask(Login("client-certificate")))


def test_an_identity_that_this_host_does_not_have(ask, entra, monkeypatch):
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    assert "client_id=" in refused(lambda: ask(Login("managed", client_id="unknown"))).hint


def test_an_app_service_that_refuses_names_what_is_set(ask, entra, monkeypatch):
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.host_endpoint}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", SECRET)
    error = refused(lambda: ask(Login("managed")))
    assert "IDENTITY_ENDPOINT, IDENTITY_HEADER" in error.message


def test_no_credential_at_all(ask, monkeypatch):
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    error = refused(lambda: ask(Login()))
    assert "no such credential was found here" in error.message
    assert "az login" in error.hint


# an outage is no refusal: readers go on with what they have


@pytest.mark.slow
def test_an_authority_that_is_down_is_an_outage(ask, app, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    for credential in ("client-secret", "default"):
        login = Login(credential, authority="localhost:1")
        refused(lambda login=login: ask(login), kind=errors.ProviderUnavailable)


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_authority_that_fails_is_an_outage(ask, app, entra, monkeypatch, status):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    with entra.failing(status, b'{"error": "temporarily_unavailable"}'):
        refused(lambda: ask(Login("client-secret")), kind=errors.ProviderUnavailable)


@pytest.mark.slow
def test_a_metadata_service_that_fails_is_an_outage(ask, entra, monkeypatch):
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.host_endpoint)
    with (
        entra.failing(500, b'{"error": "server_error"}'),
        pytest.raises(
            errors.ProviderUnavailable, match="managed identity endpoint: it answers server_error"
        ),
    ):
        ask(Login("managed"))


@pytest.mark.slow
def test_a_metadata_service_that_is_down_is_an_outage(ask, monkeypatch):
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    with pytest.raises(errors.ProviderUnavailable):
        ask(Login("managed"), timeout=3.0)


def test_an_authority_whose_certificate_is_not_trusted(ask, app, key_vault, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", key_vault.ca)
    error = refused(lambda: ask(Login("client-secret")), kind=errors.ProviderUnavailable)
    assert "REQUESTS_CA_BUNDLE" in error.message


def test_an_authority_that_answers_html(ask, app, entra, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    with entra.failing(200, b"<html>log in to the wi-fi</html>", "text/html"):
        refused(lambda: ask(Login("client-secret")))


# where a credential may go


@pytest.mark.parametrize("name", ["AZURE_AUTHORITY_HOST"])
def test_no_secret_goes_over_plain_http(entra, vault, monkeypatch, name):
    by_environment(monkeypatch, entra.managed, CLIENT_SECRET=SECRET)
    monkeypatch.setenv(name, f"http://{entra.authority}")
    with pytest.raises(errors.ConfigurationError, match=name):
        Vault(vault.host, Login("client-secret")).begin(URI)


@pytest.mark.parametrize(
    "name", ["IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST"]
)
def test_no_managed_token_comes_over_plain_http_from_another_machine(
    vault, entra, monkeypatch, name
):
    monkeypatch.setenv(name, "http://192.0.2.1/token")
    with pytest.raises(errors.ConfigurationError, match=name):
        Vault(vault.host, Login("managed")).begin(URI)


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("v-1.vault.azure.net", "login.microsoftonline.com"),
        ("v-1.vault.azure.cn", "login.chinacloudapi.cn"),
        ("v-1.vault.usgovcloudapi.net", "login.microsoftonline.us"),
    ],
)
def test_each_cloud_has_its_own_authority(entra, host, authority):
    assert Login().authority_for(host) == authority


def test_the_uri_has_the_last_word_on_the_authority(entra, monkeypatch):
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.example/")
    assert Login().authority_for("v-1.vault.azure.net") == "login.example"
    assert Login(authority="adfs.example").authority_for("v-1.vault.azure.net") == "adfs.example"


def test_a_password_in_netrc_does_not_replace_the_token(ask, app, tmp_path, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    (tmp_path / ".netrc").write_text("default login somebody password something\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    ask(Login("client-secret"))


# options


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"credential": "cli"}, "default, managed, workload, client-secret, client-certificate"),
        ({"credential": "managed", "tenant_id": TENANT}, "tenant_id="),
        ({"tenant_id": TENANT}, "tenant_id="),
        ({"client_id": "a b"}, "client_id="),
        ({"credential": "workload", "tenant_id": "../x"}, "tenant_id="),
        ({"authority": "https://login.example"}, "authority="),
        ({"authority": "login.example/path"}, "authority="),
    ],
)
def test_an_option_that_cannot_be_meant_is_named(options, word):
    with pytest.raises(errors.InvalidURI, match=word):
        Login.from_options("azurekeyvault", options)


# secrecy


@pytest.mark.parametrize(
    "credential", ["client-secret", "client-certificate", "workload", "managed", "default"]
)
def test_nothing_is_logged_at_debug_by_any_library(
    ask, app, entra, federated, monkeypatch, tmp_path, caplog, capfd, credential
):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "rotator.pem"
    caller = app(secret=SECRET, certificate=new_certificate(path), federated=True)
    by_environment(monkeypatch, caller, CLIENT_SECRET=SECRET, CLIENT_CERTIFICATE_PATH=str(path))
    before = len(entra.issued)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.host_endpoint}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", entra.identity_header)
    app.allowed(entra.managed)
    ask(Login(credential))
    hidden = [SECRET, federated.read_text(), entra.identity_header, *entra.issued[before:]]
    assert len(hidden) > 3
    assert {"msal", "urllib3"} & {record.name.split(".")[0] for record in caplog.records}
    for text in (everything_logged(caplog.records), *capfd.readouterr()):
        must_hide(text, *hidden)


def test_an_answer_that_repeats_the_secret_is_not_shown(ask, app, entra, monkeypatch):
    by_environment(monkeypatch, app(secret=SECRET), CLIENT_SECRET=SECRET)
    echo = json.dumps({"error": "invalid_client", "error_description": f"AADSTS7000215: {SECRET}"})
    with entra.failing(401, echo.encode()):
        error = refused(lambda: ask(Login("client-secret")))
    behind = error
    while behind is not None:
        must_hide(f"{behind} {vars(behind)!r}", SECRET)
        behind = behind.__context__ or behind.__cause__
