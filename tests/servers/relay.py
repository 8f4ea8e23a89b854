"""A TCP relay in front of a server: it loses answers, keeps silent, or passes everything on."""

import socket
import threading
from contextlib import contextmanager, suppress


class Relay:
    """``port`` leads to ``target``. ``lose_answers = n``: the next ``n`` connections on which the server
    says something are cut instead, after it was asked. ``silent``: nothing is passed on."""

    def __init__(self, target):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lose_answers = 0
        self.silent = False
        self._open = set()
        self._closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends accept
        self._listener.close()
        self.cut()

    def cut(self):
        """Hang up every connection and be silent no more."""
        self.silent = False
        for end in list(self._open):
            _hang_up(end)

    def _accept(self):
        with suppress(OSError):
            while not self._closed:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        address = ("127.0.0.1", self._target)
        with suppress(OSError), client, socket.create_connection(address) as server:
            self._open |= {client, server}
            back = threading.Thread(target=self._pass, args=(server, client, True), daemon=True)
            back.start()
            self._pass(client, server, False)
            back.join()
            self._open -= {client, server}

    def _pass(self, source, sink, answers):
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self._loses():
                    break
                if not self.silent:
                    sink.sendall(data)
        for end in (source, sink):
            _hang_up(end)

    def _loses(self):
        with self._lock:
            lost = self.lose_answers > 0
            self.lose_answers -= lost
        return lost


def _hang_up(end):
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port):
    """A relay to a port of this machine."""
    made = Relay(port)
    try:
        yield made
    finally:
        made.close()
