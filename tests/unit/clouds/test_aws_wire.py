"""What leaves for AWS, and what is read from it, whichever part of the SDK asks."""

import base64
import hashlib
import json
import socket
import ssl
import threading
import time

import pytest
import trustme
import urllib3

from cmzon_secrets import errors
from cmzon_secrets.clouds import aws_wire
from cmzon_secrets.clouds.aws import Place, Service
from cmzon_secrets.deadline import stop_if_given_up
from servers.aws_environment import use_aws

URI = "awskms://alias/tokens"
ROLE = "arn:aws:iam::123456789012:role/reader"
LEAKY = "http://sts.example.com"
ELSEWHERE = Place(endpoint_url="https://127.0.0.1:9")
KEYS = "aws_access_key_id = AKIA\naws_secret_access_key = x\n"
START = "https://example.awsapps.com/start"


def decrypt(place, timeout=10.0):
    calls = Service("kms", place, uri=URI, timeout=timeout).begin()
    return calls("decrypt", CiphertextBlob=b"anything", KeyId="alias/tokens")


# when nobody waits any more


def test_what_was_not_sent_when_the_time_was_up_is_never_sent(strict_kms, monkeypatch, tmp_path):
    """The profile's program hands out the credentials when the caller has been told to try again."""
    gate, looked = tmp_path / "gate", threading.Event()
    keys = '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "x"}'
    program = tmp_path / "credentials.sh"
    program.write_text(f"while ! [ -e {gate} ]; do sleep 0.1; done\necho '{keys}'\n")
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = sh {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def noted():
        try:
            stop_if_given_up()
        finally:
            looked.set()

    monkeypatch.setattr(aws_wire, "stop_if_given_up", noted)
    with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
        decrypt(Place(profile="p"), timeout=1.0)
    gate.touch()
    assert looked.wait(30)
    time.sleep(0.3)
    assert strict_kms.calls == []


# plain http


@pytest.fixture
def asked(monkeypatch):
    """The hosts whose addresses were asked for."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        asked.append(host)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def web_identity(monkeypatch, folder):
    (folder / "identity").write_text("eyJ.an-identity.x")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "identity"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", LEAKY)


def source_profile(monkeypatch, folder):
    return (
        f"[profile base]\n{KEYS}[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"services = s\n[services s]\nsts =\n  endpoint_url = {LEAKY}\n"
    )


def sso(monkeypatch, folder):
    name = hashlib.sha1(START.encode()).hexdigest()
    login = {"accessToken": "a-login", "expiresAt": "2036-01-01T00:00:00Z"}
    (folder / f"{name}.json").write_text(json.dumps(login))
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(folder))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", LEAKY)
    return (
        f"[profile p]\nsso_start_url = {START}\nsso_region = eu-west-1\n"
        "sso_account_id = 123456789012\nsso_role_name = r\n"
    )


@pytest.mark.parametrize("source", [web_identity, source_profile, sso])
def test_the_sdk_itself_gets_no_credentials_over_plain_http(source, asked, monkeypatch, tmp_path):
    use_aws(monkeypatch, access_key=None, secret_key=None)
    config = source(monkeypatch, tmp_path)
    profile = "p" if config else None
    (tmp_path / "config").write_text(config or "")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(errors.ConfigurationError, match="plain http") as caught:
        decrypt(Place(profile=profile, endpoint_url=ELSEWHERE.endpoint_url))
    assert caught.value.message.startswith(f"{URI} — the address configured for AWS s")
    assert "sts.example.com" not in asked


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1\\@example.com", "http://example.com\\@127.0.0.1", "HTTP://example.com"],
)
def test_an_address_that_looks_local_and_is_not_is_refused(url):
    class Request:
        pass

    Request.url = f"{url}/path?query=http://127.0.0.1"
    with pytest.raises(errors.ConfigurationError):
        aws_wire._last_look(Request, "before-send.sts.AssumeRole")


def test_what_the_sdk_asks_this_machine_goes_through_no_proxy(moto_server, monkeypatch, tmp_path):
    web_identity(monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert "assumed-role/reader" in Service("sts", Place(), uri=URI).whoami().arn


# TLS


def test_no_key_log_is_written(monkeypatch, tmp_path):
    """Whoever has it can read all that was sent."""
    authority, log = trustme.CA(), tmp_path / "keys.log"
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    use_aws(monkeypatch)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse_over_tls, args=(server, context), daemon=True).start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(errors.AccessDenied):
            decrypt(Place(endpoint_url=url))
    written = log.read_text().splitlines() if log.exists() else []
    assert [line for line in written if not line.startswith("#")] == []


def refuse_over_tls(server, context):
    connection, _ = server.accept()
    with context.wrap_socket(connection, server_side=True) as tls:
        asked = b""
        while b"alias/tokens" not in asked:  # closed with something unread, it would be a reset
            asked += tls.recv(65536)
        tls.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


# answers


def test_an_answer_longer_than_any_is_not_read_to_its_end(strict_kms):
    plaintext = base64.b64encode(b"a token").decode()
    answer = json.dumps({"Plaintext": plaintext, "KeyId": "x"}).encode()
    strict_kms.raw = (200, b" " * 1000 + answer)
    assert decrypt(Place())["Plaintext"] == b"a token"
    strict_kms.raw = (200, b" " * 2**20 + answer)
    with pytest.raises(errors.ProviderUnavailable, match="AnswerTooLong"):
        decrypt(Place())


def test_an_answer_that_is_cut_off_is_none(monkeypatch):
    use_aws(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=cut_off, args=(server,), daemon=True).start()
        cut = Place(endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(errors.ProviderUnavailable, match="no connection"):
            decrypt(cut)


@pytest.mark.skipif(
    not hasattr(urllib3.HTTPResponse, "read1"), reason="urllib3 1 waits for 64 KiB, or the end"
)
def test_an_answer_that_nobody_waits_for_is_not_read_on(monkeypatch):
    """Else a server that sends a byte now and then keeps a thread for each call that was given up."""
    use_aws(monkeypatch)
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=trickle, args=(server, closed), daemon=True).start()
        slow = Place(endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
            decrypt(slow, timeout=1.0)
        assert closed.wait(30)


def trickle(server, closed):
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            for _ in range(600):
                connection.sendall(b" ")
                time.sleep(0.1)
        except OSError:
            closed.set()


def test_answers_come_over_one_connection(strict_kms, monkeypatch):
    strict_kms.raw = (200, b'{"Plaintext": "YQ==", "KeyId": "x"}')
    opened, real = [], socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, to: opened.append(to) or real(self, to)
    )
    monkeypatch.setenv("AWS_EXECUTION_ENV", "a session of its own")
    for _ in range(3):
        decrypt(Place())
    assert len(opened) == 1


def cut_off(server):
    for _ in range(3):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(
                b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"Plaintext": "YQ=="}'
            )
