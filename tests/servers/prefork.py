"""A web server that loads an app, uses it, and only then forks its workers, like one with ``--preload``.

    python prefork.py MODULE APP WORKERS REQUEST_PATH

It prints its port; each answer names the worker in ``X-Worker``.
"""

import importlib
import io
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.util import setup_testing_defaults


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(module, name, workers, path):
    app = getattr(importlib.import_module(module), name)
    warm_up(app, path)  # the parent holds a token and a connection when it forks
    listening = socket.create_server(("127.0.0.1", 0))
    children = [pid for _ in range(workers) if (pid := fork(app, listening))]
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in children])
    print(listening.getsockname()[1], flush=True)
    for pid in children:
        os.waitpid(pid, 0)


def warm_up(app, path):
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    statuses = []
    for _ in app(environ, lambda status, headers, *_: statuses.append(status)):
        pass
    assert statuses[0].startswith("2"), statuses


def fork(app, listening):
    pid = os.fork()
    if pid == 0:
        server = WSGIServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        server.socket = listening
        server.server_name, server.server_port = listening.getsockname()
        server.setup_environ()
        server.set_app(named(app))
        server.serve_forever()
    return pid


def named(app):
    def answer(environ, start_response):
        def start(status, headers, *rest):
            return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *rest)

        return app(environ, start)

    return answer


@contextmanager
def preforked(module, app, path, *, folder, environment, workers=2):
    """The URL of that app, until the block ends."""
    command = [sys.executable, __file__, module, app, str(workers), path]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        port = process.stdout.readline().strip()
        assert port, "it did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
