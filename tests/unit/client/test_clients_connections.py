"""The connections of both clients: how many, whose, and to whom."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import threading

import pytest

from cmzon_secrets.errors import TransportError
from servers.awaited import Awaited

TO, TEXT = "+4915112345678", "a private word"
FIRST = "cmz_first_value"


def test_one_connection_serves_many_messages(server, client):
    for _ in range(10):
        client.send_message(TO, TEXT)
    assert server.connections == 1


def test_threads_use_a_connection_each(server, client):
    threads = [threading.Thread(target=client.send_message, args=(TO, TEXT)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(server.received) == 8
    assert server.connections <= 8


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(server, client):
    client.send_message(TO, TEXT)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a deadlock ends
        try:
            if isinstance(client, Awaited):  # whose loop's thread stayed behind
                asyncio.run(client.client.send_message(TO, TEXT))
            else:
                client.send_message(TO, TEXT)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.connections == 2
    client.send_message(TO, TEXT)
    assert server.connections == 2  # the parent's is still good


def test_proxies_and_netrc_of_the_environment_are_not_used(
    open_client, server, vault, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with open_client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
    assert server.received[0].token == FIRST


def test_a_certificate_that_is_not_trusted_is_refused_before_the_token_is_sent(
    open_client, vault, tmp_path
):
    trustme = pytest.importorskip("trustme", reason="not run: trustme (not installed)")
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, ca in (("ca.pem", authority), ("other.pem", stranger)):
        ca.cert_pem.write_to_path(str(tmp_path / name))
    with tls_server(context) as (url, seen):
        with (
            open_client(vault, base_url=url, ca=str(tmp_path / "other.pem")) as client,
            pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught,
        ):
            client.send_message(TO, TEXT)
        assert caught.value.attempts == 1
        assert FIRST.encode() not in b"".join(seen)
        with open_client(vault, base_url=url, ca=str(tmp_path / "ca.pem")) as client:
            assert client.send_message(TO, TEXT).id == "msg_tls"
        assert FIRST.encode() in b"".join(seen)


class tls_server:  # noqa: N801  # used as a function
    """Answers every TLS connection once and keeps the decrypted bytes it received."""

    def __init__(self, context):
        import socket

        self._context, self._seen = context, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}", self._seen

    def __exit__(self, *_):
        self._thread.join(30)
        self._listener.close()

    def _serve(self):
        for _ in range(2):
            raw, _address = self._listener.accept()
            with raw:
                try:
                    self._answer(raw)
                except (OSError, ssl.SSLError):
                    continue

    def _answer(self, raw):
        body = b'{"id": "msg_tls"}'
        with self._context.wrap_socket(raw, server_side=True) as connection:
            while chunk := connection.recv(65536):
                self._seen.append(chunk)
                if chunk.endswith(b"}}"):  # the end of the message's JSON
                    break
            head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
