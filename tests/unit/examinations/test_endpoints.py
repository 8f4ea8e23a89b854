"""Certificates and clocks of what we connect to, on a real TLS server."""

import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from cmzon_secrets.examinations.endpoints import clock_finding, tls_finding

NOW = datetime.now(UTC)


@contextmanager
def server(certificate, *, newest=ssl.TLSVersion.TLSv1_3):
    """A server that shakes hands and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.maximum_version = newest
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://localhost:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def examined(url, **options):
    return tls_finding("tls.test", url, now=NOW, **options)


def test_a_verified_certificate(authority, ca):
    with server(authority.issue_cert("localhost")) as url:
        finding = examined(url, ca=ca)
    assert finding.severity == "ok"
    assert "TLSv1.3" in finding.evidence


def test_an_older_protocol_that_is_still_good_is_named(authority, ca):
    with server(authority.issue_cert("localhost"), newest=ssl.TLSVersion.TLSv1_2) as url:
        assert "TLSv1.2" in examined(url, ca=ca).evidence


def test_a_certificate_that_ends_soon(authority, ca):
    soon = NOW + timedelta(days=3, hours=1)
    certificate = authority.issue_cert(
        "localhost", not_after=soon, not_before=NOW - timedelta(days=300)
    )
    with server(certificate) as url:
        finding = examined(url, ca=ca)
    assert (finding.severity, finding.message) == ("warning", "its certificate ends in 3 days")


def test_a_certificate_that_lives_shortly_is_not_ending(authority, ca):
    certificate = authority.issue_cert(
        "localhost", not_before=NOW - timedelta(hours=1), not_after=NOW + timedelta(days=4)
    )
    with server(certificate) as url:
        assert examined(url, ca=ca).severity == "ok"


@pytest.mark.parametrize(
    ("names", "options", "why"),
    [
        (["localhost"], {"not_after": NOW - timedelta(days=1)}, "expired"),
        (["example.org"], {}, "mismatch"),
    ],
)
def test_a_certificate_that_is_refused(authority, ca, names, options, why):
    with server(authority.issue_cert(*names, **options)) as url:
        finding = examined(url, ca=ca)
    assert finding.severity == "problem"
    assert why in finding.message
    assert finding.remedy


def test_a_certificate_of_an_unknown_authority(ca):
    with server(trustme.CA().issue_cert("localhost")) as url:
        finding = examined(url, ca=ca)
    assert finding.severity == "problem"
    assert "verify" in finding.message or "unable to get local issuer" in finding.message


def test_what_cannot_be_connected_to_is_not_judged():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    finding = examined(f"https://127.0.0.1:{port}")
    assert finding.severity == "note"
    assert "not checked" in finding.message


def test_plain_http_is_told():
    assert examined("http://127.0.0.1:1").severity == "note"


@pytest.mark.parametrize(
    ("seconds", "severity", "words"),
    [
        (0, "ok", "agrees with that of the API"),
        (30, "ok", "agrees"),
        (-31, "warning", "31 s behind that of the API"),
        (100, "warning", "100 s ahead of that of the API"),
        (240, "problem", "240 s ahead of"),
        (-86400, "problem", "86400 s behind"),
    ],
)
def test_clocks(seconds, severity, words):
    finding = clock_finding("clock.test", "the API", timedelta(seconds=seconds))
    assert finding.severity == severity
    assert words in finding.message
    assert (finding.remedy is None) == (severity == "ok")
