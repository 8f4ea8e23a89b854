"""Servers whose TLS is not to be trusted, for both sessions: nothing is sent to them."""

import ssl
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from cmzon_secrets.errors import ConfigurationError, TransportError
from servers.http_sessions import MESSAGE, TOKEN, failure, hides
from servers.told_server import always, answer, server_context, told

SLACK = 1.0
"""Seconds more that a busy machine may take to notice."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def context(authority):
    return server_context(authority.issue_cert("127.0.0.1"))


def post(session, **options):
    return session.send(
        "POST", "/v1/messages", token=TOKEN, json=MESSAGE, **{"within": 5.0, **options}
    )


def test_a_given_ca_is_trusted_instead_of_the_systems(ca, context, open_session):
    with told(always(answer()), context) as server:
        assert post(open_session(server.url, ca=ca)).status == 200
        assert len(server.heard) == 1


def test_tls_connections_are_kept(ca, context, open_session):
    with told(always(answer()), context) as server:
        session = open_session(server.url, ca=ca)
        assert [post(session).status for _ in range(3)] == [200] * 3
        assert server.connections == 1


UNTRUSTED = {
    "an unknown CA": lambda authority: trustme.CA().issue_cert("127.0.0.1"),
    "another host's certificate": lambda authority: authority.issue_cert("api.cmzon.com"),
    "an expired certificate": lambda authority: authority.issue_cert(
        "127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1)
    ),
}


@pytest.mark.parametrize("certificate", UNTRUSTED.values(), ids=UNTRUSTED)
def test_a_certificate_that_proves_nothing_gets_nothing(certificate, authority, ca, open_session):
    with told(always(answer()), server_context(certificate(authority))) as server:
        error, seconds = failure(lambda: post(open_session(server.url, ca=ca)))
        assert server.heard == []
    assert isinstance(error, TransportError)
    assert not error.may_have_been_sent
    assert "certificate" in error.message
    assert "ca=PATH, or --ca FILE" in error.hint
    assert not error.retryable, "trying again mends no certificate"
    assert seconds < SLACK
    assert hides(error)


def test_a_certificate_signed_by_itself_gets_nothing(open_session, tmp_path):
    certificate = trustme.CA().issue_cert("127.0.0.1")
    path = tmp_path / "leaf.pem"
    certificate.cert_chain_pems[0].write_to_path(path)
    with told(always(answer()), server_context(certificate)) as server:
        for options in ({}, {"ca": str(path)}):  # nor does a leaf make a CA
            error, _ = failure(lambda: post(open_session(server.url, **options)))  # noqa: B023
            assert isinstance(error, TransportError)
            assert not error.may_have_been_sent
        assert server.heard == []


def test_old_tls_is_refused(authority, ca, open_session):
    old = server_context(authority.issue_cert("127.0.0.1"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with told(always(answer()), old) as server:
        error, _ = failure(lambda: post(open_session(server.url, ca=ca)))
        assert isinstance(error, TransportError)
        assert not error.may_have_been_sent
        assert server.heard == []


def test_tls_1_2_is_enough(authority, ca, open_session):
    enough = server_context(authority.issue_cert("127.0.0.1"))
    enough.maximum_version = ssl.TLSVersion.TLSv1_2
    with told(always(answer()), enough) as server:
        assert post(open_session(server.url, ca=ca)).status == 200


def test_a_plain_server_where_tls_was_expected_gets_nothing(ca, open_session):
    with told(always(answer())) as server:
        error, _ = failure(
            lambda: post(open_session(server.url.replace("http:", "https:"), ca=ca), within=1.0)
        )
        assert TOKEN.reveal().encode() not in b"".join(server.heard)
    assert isinstance(error, TransportError)
    assert not error.may_have_been_sent


def test_a_tls_server_where_plain_http_was_expected_is_an_error(context, open_session):
    with told(always(answer()), context) as server:
        error, _ = failure(lambda: post(open_session(server.url.replace("https:", "http:"))))
    assert isinstance(error, TransportError)
    assert hides(error)


def test_a_handshake_that_stalls_ends_with_the_deadline_and_holds_up_no_other(open_session):
    with told(lambda conversation: conversation.wait()) as server:
        session = open_session(server.url.replace("http:", "https:"))
        outcomes = []
        threads = [
            threading.Thread(
                target=lambda: outcomes.append(failure(lambda: post(session, within=0.6)))
            )
            for _ in range(4)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 0.6 + SLACK
    assert len(outcomes) == 4
    assert not any(error.may_have_been_sent for error, _ in outcomes)


def test_a_handshake_a_byte_at_a_time_ends_with_the_deadline(open_session):
    with told(lambda c: c.say_slowly(b"\x16\x03\x03\x40\x00" + b"\x02" * 1000)) as server:
        session = open_session(server.url.replace("http:", "https:"))
        error, seconds = failure(lambda: post(session, within=0.4))
    assert not error.may_have_been_sent
    assert 0.3 < seconds < 0.4 + SLACK


def test_a_handshake_that_was_given_up_leaves_no_socket_open(open_session):
    with told(lambda conversation: conversation.wait()) as server:
        session = open_session(server.url.replace("http:", "https:"))
        for _ in range(3):
            server.hung_up.clear()
            failure(lambda: post(session, within=0.1))
            assert server.hung_up.wait(2)
        assert session.connections() == []


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(content, open_session, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    error, _ = failure(lambda: open_session("https://127.0.0.1:1", ca=str(path)).send("GET", "/v1"))
    assert isinstance(error, ConfigurationError)
    assert str(path) in error.message


@pytest.mark.skipif(sys.platform == "darwin", reason="not run: OpenSSL's store (macOS has its own)")
@pytest.mark.parametrize("own_ca", [True, False])
def test_openssls_own_variables_say_where_the_systems_store_is(
    own_ca, ca, context, open_session, monkeypatch, tmp_path
):
    """They do not weaken a CA that was given."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other) if own_ca else ca)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with told(always(answer()), context) as server:
        assert post(open_session(server.url, ca=ca if own_ca else None)).status == 200


@pytest.mark.parametrize("own_ca", [True, False])
def test_session_keys_are_written_nowhere(own_ca, ca, context, open_session, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    with told(always(answer()), context) as server:
        assert post(open_session(server.url, ca=ca if own_ca else None)).status == 200
    assert not (tmp_path / "keys.log").exists()


def test_macos_store_writes_no_session_keys_either(monkeypatch, tmp_path):
    """Its context is truststore's, whose making heeds the variable no more than ours."""
    import truststore

    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert context.keylog_filename is None
    assert not (tmp_path / "keys.log").exists()
