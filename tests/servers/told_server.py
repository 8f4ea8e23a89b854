"""A server on loopback that says what a script tells it, byte by byte, and writes down what it hears."""

import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress


def answer(status=200, body=b"{}", reason="OK", **fields):
    """A well-formed answer; field names with _ for -, and None to leave Content-Length out."""
    fields = {"Content_Length": str(len(body)), **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *lines, "", ""]).encode() + body


class Conversation:
    """One connection, as a script sees it. An OSError in it, or its end, hangs up."""

    def __init__(self, server, connection):
        self.server = server
        self._connection = connection
        self._rest = b""

    def hear(self):
        """The next request, whole; b"" where there is none."""
        head, body = self.hear_head(), b""
        length = next(
            (
                int(line[15:])
                for line in head.lower().split(b"\r\n")
                if line[:15] == b"content-length:"
            ),
            0,
        )
        while len(self._rest) < length and self._more():
            pass
        body, self._rest = self._rest[:length], self._rest[length:]
        if head:
            self.server.heard.append(head + body)
        return head + body

    def hear_head(self):
        """The head of the next request, up to its blank line."""
        while b"\r\n\r\n" not in self._rest and self._more():
            pass
        head, blank, self._rest = self._rest.partition(b"\r\n\r\n")
        return head + blank

    def say(self, data):
        self._connection.sendall(data)

    def say_slowly(self, data, every=0.05):
        """A byte at a time."""
        for byte in data:
            self.say(bytes([byte]))
            time.sleep(every)

    def say_for_ever(self, data, every=0.0):
        """Until the other end hangs up, which is noted."""
        try:
            while not self.server.closing:
                self.say(data)
                time.sleep(every)
        finally:
            self.server.hung_up.set()

    def listen(self, size=65536):
        """Whatever comes next; b"" at the end."""
        return self._connection.recv(size)

    def wait(self):
        """Say nothing, until the other end hangs up."""
        while self.listen():
            pass
        self.server.hung_up.set()

    def reset(self):
        """End with RST instead of FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def tunnel(self, port):
        """Pass everything on to a port of this machine, and back."""
        with socket.create_connection(("127.0.0.1", port)) as beyond:
            back = threading.Thread(target=_pass_on, args=(beyond, self._connection, bytearray()))
            back.start()
            _pass_on(self._connection, beyond, self.server.passed)
            back.join()

    def _more(self):
        data = self.listen()
        self._rest += data
        return data


class ToldServer:
    """``heard``: the requests; ``passed``: what was tunnelled towards the server; ``connections``: how
    many there were; ``hung_up``: set when a client hung up on a script that waits for it."""

    def __init__(self, script, tls=None, backlog=128):
        self._script, self._tls = script, tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.heard, self.passed, self.connections = [], bytearray(), 0
        self.hung_up, self.closing = threading.Event(), False
        self._open, self._threads = set(), []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def close(self):
        self.closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which ends accept
        self._listener.close()
        self._acceptor.join()
        for connection in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        with suppress(OSError):
            while not self.closing:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        self._open.add(connection)
        try:
            if self._tls is not None:
                self._open.discard(connection)
                connection.settimeout(10)
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            with suppress(OSError):
                self._script(Conversation(self, connection))
        except OSError:
            pass  # the handshake failed
        finally:
            self._open.discard(connection)
            connection.close()


def _pass_on(source, sink, record):
    with suppress(OSError):
        while data := source.recv(65536):
            record += data
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def told(script, tls=None, **options):
    """A server that holds ``script(conversation)`` on every connection."""
    server = ToldServer(script, tls, **options)
    try:
        yield server
    finally:
        server.close()


def always(*replies):
    """A script that answers each request with the next of ``replies``, the last of them for ever."""

    def script(conversation):
        left = list(replies)
        while conversation.hear():
            conversation.say(left.pop(0) if len(left) > 1 else left[0])

    return script


def server_context(certificate):
    """For ``tls=``: a trustme certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
