"""What lies below all of the SDK's policies: TLS, the last look before sending, the longest answer."""

import functools
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from azure.core.exceptions import ServiceResponseError
from azure.core.rest import HttpRequest

from cmzon_secrets.clouds import azure_wire
from cmzon_secrets.clouds.azure_wire import transport
from cmzon_secrets.deadline import Deadline
from cmzon_secrets.errors import ProviderUnavailable


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = trustme.CA()
    authority.pem = str(tmp_path_factory.mktemp("ca") / "ca.pem")
    authority.cert_pem.write_to_path(authority.pem)
    return authority


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_CONNECT(self):
        """A proxy that leads to the server itself, whatever was asked for."""
        self.server.tunnels.append(self.path)
        self.send_response_only(200)
        self.end_headers()
        there = socket.create_connection(self.server.target)
        back = threading.Thread(target=_copy, args=(there, self.connection), daemon=True)
        back.start()
        _copy(self.connection, there)
        back.join()
        there.close()
        self.close_connection = True

    def log_message(self, *_):
        pass


def _copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def serving():
    """``serving(tls)``: a server; ``.asked`` is what was asked of it, ``.body`` what it answers."""
    servers = []

    def serve(tls=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked, server.tunnels, server.body = [], [], b"{}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def secure(serving, authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    return serving(tls)


@pytest.fixture
def to(authority, monkeypatch):
    """``to(server)``: a transport that trusts the CA, and a request."""
    monkeypatch.setenv("NO_PROXY", "localhost")
    transports = []

    def request(server):
        used = transport(authority.pem)
        transports.append(used)
        return functools.partial(
            used.send, HttpRequest("GET", f"https://localhost:{server.server_address[1]}/")
        )

    yield request
    for used in transports:
        used.session.close()


def test_no_session_key_is_written_down(secure, to, tmp_path, monkeypatch):
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    ssl.create_default_context()  # writes its head line: the variable works here
    before = log.read_bytes()
    assert to(secure)().status_code == 200
    assert log.read_bytes() == before


def test_nor_behind_a_proxy(secure, serving, to, tmp_path, monkeypatch):
    proxy = serving()
    proxy.target = secure.server_address
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    ssl.create_default_context()
    before = log.read_bytes()
    assert to(secure)().status_code == 200
    assert len(proxy.tunnels) == 1
    assert log.read_bytes() == before


def test_a_certificate_of_another_ca_is_refused(secure, to, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(Exception, match="certificate verify failed"):
        to(secure)(connection_verify=str(other))


def test_a_certificate_of_another_host_is_refused(serving, authority, to):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(tls)
    with pytest.raises(Exception, match="match"):
        to(serving(tls))()


def after_the_deadline(request, held):
    """Ask with a deadline that ends while the call is ``held``; then let it go on to its end."""
    done = threading.Event()

    def call():
        try:
            request()
        finally:
            done.set()

    with pytest.raises(ProviderUnavailable):
        Deadline(0.2, uri="azurekeyvault://vault/secrets/token").call(call)
    held.set()
    assert done.wait(20)


def test_nothing_is_sent_for_a_caller_that_was_told_that_the_time_is_up(secure, to):
    held, request = threading.Event(), to(secure)

    def slow():  # a login
        held.wait(20)
        request()

    after_the_deadline(slow, held)
    assert secure.asked == []


def test_nor_after_a_name_was_looked_up_too_long(secure, to, monkeypatch):
    held, real = threading.Event(), socket.getaddrinfo

    def slow(*args, **kwargs):
        held.wait(20)
        return real(*args, **kwargs)

    request = to(secure)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    after_the_deadline(request, held)
    assert secure.asked == []


def test_an_answer_without_end_is_not_read(secure, to, monkeypatch):
    monkeypatch.setattr(azure_wire, "MAX_ANSWER", 100_000)
    secure.body = b"x" * 100_000
    assert len(to(secure)().content) == 100_000
    secure.body = b"x" * 100_001
    with pytest.raises(ServiceResponseError, match="longer than any answer"):
        to(secure)()


def test_a_transport_goes_on_after_its_connections_were_given_back(secure, authority):
    used = transport(authority.pem)
    url = f"https://localhost:{secure.server_address[1]}/"
    assert used.send(HttpRequest("GET", url)).status_code == 200
    used.session.close()
    assert used.send(HttpRequest("GET", url)).status_code == 200
    used.session.close()
