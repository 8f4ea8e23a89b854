"""A Vault session through what servers do: restart, seal, lose answers, throttle, distrust, and fall silent.

On the real server; a relay loses answers after the server has acted.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cmzon_secrets.clouds.vault import OutcomeUnknown, Place, Session
from cmzon_secrets.errors import ConfigurationError, ProviderUnavailable
from cmzon_secrets.uri import split
from servers.openbao import unused
from servers.relay import relay

pytestmark = pytest.mark.slow

URI = "hashivault://secret/app"
POLICY = 'path "secret/data/{0}" {{ capabilities = ["create", "read", "update"] }}'


@pytest.fixture
def name(openbao):
    made = unused("fault")
    openbao.admin("POST", f"secret/data/{made}", {"data": {"n": "0"}})
    return made


@pytest.fixture
def environment(openbao, vault_environment, name):
    role, role_id = openbao.approle(openbao.policy(POLICY.format(name)))
    vault_environment(
        openbao.environment(VAULT_ROLE_ID=role_id, VAULT_SECRET_ID=openbao.secret_id(role))
    )
    return vault_environment


@pytest.fixture
def at(environment):
    return session()


def session():
    return Session(Place.from_location(split(f"{URI}?auth=approle")))


def read(at, name, timeout=10.0):
    return at.begin(uri=URI, timeout=timeout).read(f"secret/data/{name}")["data"]["data"]


def write(at, name, value, timeout=10.0):
    return at.begin(uri=URI, timeout=timeout).write(
        f"secret/data/{name}", {"data": {"n": str(value)}}
    )


def logins(openbao):
    return len(openbao.audited("auth/approle/login"))


@contextmanager
def sealed(openbao):
    openbao.seal()
    try:
        yield
    finally:
        openbao.unseal()


@contextmanager
def readers(at, name, count=4):
    """Read without pause meanwhile; afterwards, what they got and what was raised."""
    stop, results, errors = threading.Event(), [], []

    def go():
        while not stop.is_set():
            try:
                results.append(read(at, name))
            except Exception as error:
                errors.append(error)

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(go)
        try:
            yield results, errors
            time.sleep(0.3)
        finally:
            stop.set()


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_readers_go_on_through_a_restart_without_an_error(openbao, at, name, kill):
    read(at, name)
    before = logins(openbao)
    with readers(at, name) as (results, errors):
        time.sleep(0.2)
        openbao.restart(kill=kill)
        so_far = len(results)
    assert errors == []
    assert len(results) > so_far
    assert all(r == {"n": "0"} for r in results)
    assert logins(openbao) == before


def test_readers_go_on_when_it_is_sealed_and_unsealed_with_the_same_token(openbao, at, name):
    read(at, name)
    before = logins(openbao)
    with readers(at, name) as (results, errors):
        with sealed(openbao):
            time.sleep(0.3)
        so_far = len(results)
    assert errors == []
    assert len(results) > so_far
    assert logins(openbao) == before


def test_a_sealed_server_is_unavailable_and_nobody_logs_in(openbao, environment, at, name):
    read(at, name)
    fresh = session()
    before = logins(openbao)
    with sealed(openbao):
        for one in (at, fresh):
            with pytest.raises(ProviderUnavailable, match=f"{openbao.address} is sealed"):
                read(one, name, timeout=0.5)
        with pytest.raises(ProviderUnavailable, match="is sealed") as caught:
            write(at, name, 1, timeout=0.5)
        assert not isinstance(caught.value, OutcomeUnknown)
    assert logins(openbao) == before
    assert read(at, name) == {"n": "0"}


def test_a_server_that_is_down_is_unavailable_in_time_and_comes_back(openbao, at, name):
    read(at, name)
    openbao.stop(kill=True)
    try:
        started = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="no answer") as caught:
            write(at, name, 1, timeout=0.5)
        assert time.monotonic() - started < 8
        assert openbao.address in caught.value.message
    finally:
        openbao.start()
        openbao.unseal()
    assert read(at, name) == {"n": "0"}


@pytest.fixture
def relayed(openbao, environment):
    with relay(openbao.port) as between:
        environment({"VAULT_ADDR": f"https://127.0.0.1:{between.port}"})
        yield between


def test_a_write_whose_answer_is_lost_is_unknown_and_was_carried_out_once(openbao, relayed, name):
    at = session()
    read(at, name)
    relayed.lose_answers = 1
    with pytest.raises(OutcomeUnknown):
        write(at, name, 1)
    after = openbao.admin("GET", f"secret/data/{name}")["data"]
    assert after["data"] == {"n": "1"}
    assert after["metadata"]["version"] == 2


def test_a_read_whose_answer_is_lost_is_read_again(relayed, name):
    at = session()
    read(at, name)
    relayed.lose_answers = 2
    assert read(at, name) == {"n": "0"}


def test_a_login_whose_answer_is_lost_is_repeated(relayed, name):
    at = session()
    # Connected already, so that it is the login's answer and not the handshake that is lost.
    at.begin(uri=URI).request("GET", "sys/health", authenticated=False)
    relayed.lose_answers = 1
    assert read(at, name) == {"n": "0"}


def test_a_lost_answer_to_unwrapping_is_not_called_an_interception(
    openbao, relayed, name, environment, monkeypatch
):
    from cmzon_secrets.errors import AccessDenied

    role, role_id = openbao.approle(openbao.policy(POLICY.format(name)))
    monkeypatch.delenv("VAULT_SECRET_ID")
    environment(
        {"VAULT_ROLE_ID": role_id, "VAULT_WRAPPED_SECRET_ID": openbao.wrapped_secret_id(role)}
    )
    at = session()

    real = at.logins._check_origin

    def then_lose(*args):
        real(*args)
        relayed.lose_answers = 1

    monkeypatch.setattr(at.logins, "_check_origin", then_lose)
    for _ in range(2):
        with pytest.raises(AccessDenied, match="the answer was lost") as caught:
            read(at, name)
        assert "intercepted" not in caught.value.message


def test_a_silent_server_costs_the_deadline_and_no_more_for_many_threads(relayed, name):
    at = session()
    read(at, name)
    relayed.silent = True
    started = time.monotonic()

    def one(_):
        with pytest.raises(ProviderUnavailable, match="no answer"):
            read(at, name, timeout=0.5)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    assert time.monotonic() - started < 8


def test_a_silent_server_at_renewal_costs_a_third_of_the_time_and_not_the_call(
    openbao, relayed, name
):
    from dataclasses import replace

    at = session()
    read(at, name)
    at.logins._lease = replace(at.logins._lease, due=0.0)
    relayed.silent = True
    wake = threading.Timer(1.3, relayed.cut)
    wake.start()
    assert read(at, name, timeout=3) == {"n": "0"}
    wake.join()


def test_throttling_is_waited_out_and_then_unavailable(openbao, at, name):
    read(at, name)
    quota = f"sys/quotas/rate-limit/{unused('quota')}"
    openbao.admin("POST", quota, {"path": f"secret/data/{name}", "rate": 1, "interval": "1s"})
    try:
        assert [read(at, name) for _ in range(2)] == [{"n": "0"}] * 2
        with pytest.raises(ProviderUnavailable, match="throttles"):  # one in a second
            [read(at, name, timeout=0.2) for _ in range(50)]
    finally:
        openbao.admin("DELETE", quota)
    assert read(at, name) == {"n": "0"}


# TLS


def test_a_server_whose_ca_is_not_ours_is_refused_at_once(environment, name, tmp_path):
    import trustme

    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    environment({"VAULT_CACERT": str(tmp_path / "other.pem")})
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="not trusted") as caught:
        read(session(), name)
    assert time.monotonic() - started < 8
    assert "VAULT_CACERT" in caught.value.hint


def test_the_systems_cas_are_used_where_none_is_given(environment, name, monkeypatch):
    monkeypatch.delenv("VAULT_CACERT")
    with pytest.raises(ConfigurationError, match="not trusted"):
        read(session(), name)


def test_a_certificate_of_another_host_is_refused_unless_it_is_named(
    openbao, environment, name, monkeypatch
):
    environment({"VAULT_TLS_SERVER_NAME": "elsewhere.example"})
    with pytest.raises(ConfigurationError, match="another server's"):
        read(session(), name)
    environment({"VAULT_TLS_SERVER_NAME": "vault.example"})
    assert read(session(), name) == {"n": "0"}


def test_a_folder_of_cas_works_too(openbao, environment, name, monkeypatch, tmp_path):
    import shutil
    import subprocess

    if shutil.which("openssl") is None:
        pytest.skip("not run: openssl (no binary)")
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", openbao.ca],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    shutil.copy(openbao.ca, tmp_path / f"{hashed}.0")
    monkeypatch.delenv("VAULT_CACERT")
    environment({"BAO_CAPATH": str(tmp_path)})
    assert read(session(), name) == {"n": "0"}


def test_no_session_key_of_tls_is_written_down(environment, name, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert read(session(), name) == {"n": "0"}
    assert not (tmp_path / "keys").exists()


def test_plain_http_to_the_tls_port_says_https(openbao, environment, name):
    environment({"VAULT_ADDR": openbao.address.replace("https", "http")})
    with pytest.raises(ConfigurationError, match="speaks https"):
        read(session(), name)
