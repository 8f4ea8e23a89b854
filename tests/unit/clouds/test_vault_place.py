"""Where a Vault server is and who we are there: options, variables, and which of them wins."""

import copy
import os
import pickle
import sys
from contextlib import suppress
from dataclasses import asdict

import pytest

from cmzon_secrets.clouds.vault import OPTIONS, Place, Session
from cmzon_secrets.errors import AccessDenied, ConfigurationError, InvalidURI, missing_extra
from cmzon_secrets.uri import split

URI = "hashivault://secret/app"
ADDRESS = "https://vault.example:8200"


@pytest.fixture(autouse=True)
def _nobodys_environment(vault_environment, monkeypatch):
    monkeypatch.setenv("VAULT_ADDR", ADDRESS)


def place(query=""):
    location = split(f"{URI}?{query}" if query else URI)
    location.refuse_unknown_options(OPTIONS)
    return Place.from_location(location)


def credential(query=""):
    return place(query).credentials.secret.read(URI)


# which one wins


@pytest.mark.parametrize(
    ("option", "variable", "value", "where"),
    [
        ("address", "ADDR", "https://{}.example", lambda p: p.address),
        ("namespace", "NAMESPACE", "team/{}", lambda p: p.namespace),
        ("ca", "CACERT", "/{}.pem", lambda p: p.tls.ca),
    ],
)
def test_an_option_beats_bao_and_bao_beats_vault(monkeypatch, option, variable, value, where):
    monkeypatch.setenv(f"VAULT_{variable}", value.format("vault"))
    found = place()
    assert where(found) == value.format("vault")
    assert dict(found.origins)[option] == f"VAULT_{variable}"

    monkeypatch.setenv(f"BAO_{variable}", value.format("bao"))
    found = place()
    assert where(found) == value.format("bao")
    assert dict(found.origins)[option] == f"BAO_{variable}"

    found = place(f"{option}={value.format('option')}")
    assert where(found) == value.format("option")
    assert dict(found.origins)[option] == f"{option}= in the URI"


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("BAO_ADDR", "")
    assert place().address == ADDRESS


def test_a_client_certificate_and_a_server_name_come_from_variables(monkeypatch):
    monkeypatch.setenv("VAULT_CLIENT_CERT", "/me.pem")
    monkeypatch.setenv("VAULT_CLIENT_KEY", "/me.key")
    monkeypatch.setenv("BAO_TLS_SERVER_NAME", "inside.example")
    monkeypatch.setenv("VAULT_CAPATH", "/cas")
    tls = place().tls
    assert (tls.cert, tls.key, tls.server_name, tls.ca) == (
        "/me.pem",
        "/me.key",
        "inside.example",
        "/cas",
    )


def test_the_same_place_however_it_was_written_is_equal(monkeypatch):
    by_variable = place()
    monkeypatch.delenv("VAULT_ADDR")
    by_option = place(f"address={ADDRESS}/")
    assert by_variable == by_option
    assert hash(by_variable) == hash(by_option)


def test_another_token_is_another_place(monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "one")
    one = place()
    monkeypatch.setenv("VAULT_TOKEN", "two")
    assert place() != one


# what is refused before anything is sent


def test_without_an_address_the_remedy_names_the_variable(monkeypatch):
    monkeypatch.delenv("VAULT_ADDR")
    with pytest.raises(ConfigurationError) as caught:
        place()
    assert "VAULT_ADDR" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://vault.example:8200", "plain http"),
        ("http://127.0.0.2.example", "plain http"),
        ("vault.example:8200", "not an https"),
        ("unix:///run/agent.sock", "not an https"),
        ("https://me:hvs.s3cret@vault.example", "user or password"),
        ("https://vault.example/v1", "/v1"),
        ("https://vault.example:port", "malformed"),
        ("https://vault.example?x=1", "query"),
    ],
)
@pytest.mark.parametrize("by", ["option", "variable"])
def test_an_address_that_must_not_get_a_token_is_refused(monkeypatch, address, why, by):
    from urllib.parse import quote

    monkeypatch.setenv("VAULT_ADDR", address if by == "variable" else ADDRESS)
    with pytest.raises(ConfigurationError, match=why) as caught:
        place(f"address={quote(address, safe='')}" if by == "option" else "")
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert "base URL" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:1"]
)
def test_plain_http_to_this_machine_is_accepted(monkeypatch, address):
    monkeypatch.setenv("VAULT_ADDR", address)
    assert place().address == address


@pytest.mark.parametrize("name", ["VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"])
def test_an_unverified_server_is_refused_and_not_ignored(monkeypatch, name):
    monkeypatch.setenv(name, "true")
    with pytest.raises(ConfigurationError, match=name) as caught:
        place()
    assert "VAULT_CACERT" in caught.value.hint
    monkeypatch.setenv(name, "false")
    place()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("auth=userpass", "token, approle, kubernetes, jwt"),
        ("auth=kubernetes", "role="),
        ("role=app", "role="),
        ("auth_mount=other", "auth_mount="),
        ("renew=1", "unknown option 'renew'"),
        ("auth=jwt&auth_mount=../../sys", "auth_mount="),
        ("auth=jwt&auth_mount=a//b", "auth_mount="),
        ("auth=jwt&role=a%0Ab", "role="),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(query, named):
    with pytest.raises(InvalidURI, match=named):
        place(query)


def test_a_namespace_that_cannot_be_a_header_is_refused(monkeypatch):
    monkeypatch.setenv("VAULT_NAMESPACE", "team a")
    with pytest.raises(ConfigurationError, match="namespace"):
        place()


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path):
    no_pem = tmp_path / "ca.pem"
    no_pem.write_text("no certificate")
    for path, why in ((tmp_path / "none.pem", "No such file"), (no_pem, "not PEM")):
        session = Session(place(f"ca={path}"))
        with pytest.raises(ConfigurationError, match=f"{path.name} — .*{why}"):
            session.begin(uri=URI).request("GET", "sys/health", authenticated=False)


def test_a_client_certificate_with_a_pass_phrase_does_not_ask_at_the_terminal(tmp_path):
    import trustme
    from cryptography.hazmat.primitives import serialization as s

    mine = trustme.CA().issue_cert("me.example")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    key = s.load_pem_private_key(mine.private_key_pem.bytes(), None)
    encrypted = s.BestAvailableEncryption(b"secret")
    (tmp_path / "me.key").write_bytes(
        key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, encrypted)
    )
    program = """if True:
        from cmzon_secrets.clouds.vault_wire import TLSFiles, Wire
        from cmzon_secrets.errors import ConfigurationError
        try:
            Wire("https://vault.example", None, TLSFiles(cert="me.pem", key="me.key"))
        except ConfigurationError as error:
            print("refused:", error)
    """
    child, terminal = os.forkpty()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", program])
    told = b""
    with suppress(OSError):  # how a terminal ends
        while b"phrase" not in told and (data := os.read(terminal, 999)):
            told += data
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"refused: client certificate me.pem" in told


# credentials


def test_the_token_is_baos_then_vaults_then_the_file_of_the_login_command(monkeypatch, tmp_path):
    (tmp_path / ".vault-token").write_text("from-the-file\n")
    assert credential() == "from-the-file"
    monkeypatch.setenv("VAULT_TOKEN", "from-vault")
    assert credential() == "from-vault"
    monkeypatch.setenv("BAO_TOKEN", "from-bao")
    assert credential() == "from-bao"
    assert str(place().credentials) == "the token in BAO_TOKEN"


def test_without_any_token_the_error_says_where_it_looked():
    with pytest.raises(AccessDenied, match=r"VAULT_TOKEN.*\.vault-token") as caught:
        Session(place()).begin(uri=URI).read("secret/data/app")
    assert "bao login" in caught.value.hint


def test_a_secret_id_comes_from_a_variable_then_a_file_then_wrapped(monkeypatch, tmp_path):
    path = tmp_path / "secret-id"
    path.write_text("in-the-file\n")
    monkeypatch.setenv("VAULT_WRAPPED_SECRET_ID", "wrapping")
    assert place("auth=approle").credentials.wrapped
    monkeypatch.setenv("VAULT_SECRET_ID_FILE", str(path))
    assert credential("auth=approle") == "in-the-file"
    path.write_text("another")
    assert credential("auth=approle") == "another"
    monkeypatch.setenv("VAULT_SECRET_ID", "in-the-variable")
    assert credential("auth=approle") == "in-the-variable"
    assert not place("auth=approle").credentials.wrapped


def test_a_jwt_comes_from_its_file_and_in_a_cluster_from_where_kubelet_puts_it(
    monkeypatch, tmp_path
):
    in_cluster = place("auth=kubernetes&role=app").credentials
    assert in_cluster.secret.path == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    (tmp_path / "jwt").write_text("a.b.c")
    monkeypatch.setenv("VAULT_JWT_FILE", str(tmp_path / "jwt"))
    assert credential("auth=kubernetes&role=app") == "a.b.c"
    assert credential("auth=jwt") == "a.b.c"


@pytest.mark.parametrize(
    ("query", "variables", "named"),
    [
        ("auth=approle", {}, "VAULT_ROLE_ID"),
        ("auth=approle", {"VAULT_ROLE_ID": "a"}, "no secret ID"),
        ("auth=jwt", {}, "VAULT_JWT_FILE"),
        ("auth=jwt", {"VAULT_JWT_FILE": "/nowhere/jwt"}, "/nowhere/jwt"),
        ("auth=kubernetes&role=a", {"BAO_JWT_FILE": "/"}, "is a directory"),
        ("", {"VAULT_TOKEN": "two words"}, "VAULT_TOKEN"),
        ("", {"VAULT_TOKEN": "hvs.é"}, "VAULT_TOKEN"),
    ],
)
def test_a_missing_or_impossible_credential_is_named_and_not_shown(
    monkeypatch, query, variables, named
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied, match=named) as caught:
        Session(place(query)).begin(uri=URI).read("secret/data/app")
    assert "words" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "variables", "remedies"),
    [
        ("auth=approle&role=app", {}, ["VAULT_ROLE_ID", "bao read auth/approle/role/app/role-id"]),
        (
            "auth=approle&auth_mount=our/roles",
            {"VAULT_ROLE_ID": "a"},
            [
                "VAULT_SECRET_ID, VAULT_SECRET_ID_FILE or VAULT_WRAPPED_SECRET_ID",
                "bao write -force auth/our/roles/role/ROLE/secret-id",
            ],
        ),
        ("auth=jwt", {}, ["VAULT_JWT_FILE"]),
    ],
)
def test_a_missing_credential_comes_with_its_remedy(monkeypatch, query, variables, remedies):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied) as caught:
        Session(place(query)).begin(uri=URI).read("secret/data/app")
    for remedy in remedies:
        assert remedy in caught.value.hint


def test_nothing_shows_a_credential(monkeypatch):
    monkeypatch.setenv("VAULT_ROLE_ID", "role-s3cret")
    monkeypatch.setenv("VAULT_SECRET_ID", "id-s3cret")
    found = place("auth=approle&role=app")
    for text in (
        repr(found),
        str(found),
        str(found.credentials),
        str(found.origins),
        repr(Session(found)),
    ):
        assert "s3cret" not in text


@pytest.mark.parametrize("query", ["", "auth=approle"])
def test_a_credential_is_neither_pickled_nor_copied_into_a_dict(monkeypatch, query):
    for name in ("TOKEN", "ROLE_ID", "SECRET_ID"):
        monkeypatch.setenv(f"VAULT_{name}", "a-s3cret")
    found = place(query)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(found)
    assert "s3cret" not in repr(asdict(found))
    assert copy.deepcopy(found) == found
    assert found.credentials.secret.read(URI) == "a-s3cret"


def test_without_the_sdk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hvac.adapters", None)
    with pytest.raises(ConfigurationError) as caught:
        Session(place()).begin(uri=URI).request("GET", "sys/health", authenticated=False)
    assert caught.value.hint == missing_extra("vault", "").hint
