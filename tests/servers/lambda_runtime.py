"""The Runtime API of AWS Lambda: hands events to a function's process and takes its answers.

The process runs AWS's own runtime client in a virtual environment that holds nothing else, so that
what is missing in the zip is missing here, too.

Source: AWS Lambda Developer Guide, "Using the Lambda runtime API".
"""

import json
import queue
import re
import subprocess
import sys
import threading
import time
import venv
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest

from cmzon_secrets.provisioning import lambda_zip

CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
"""AWS's client and what it needs; all of them are in Lambda as well."""


def zipped(output, *added):
    """The function's zip as the project's tool builds it, with these files beside the code."""
    adds = [word for file in added for word in ("--add", str(file))]
    tool = [sys.executable, "-m", lambda_zip.__name__, "--output", output, *adds]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        offline = re.search(
            r"Could not find a version|No matching distribution|Connection", done.stderr
        )
        if offline:
            pytest.skip("not run: the zip for AWS Lambda (pip cannot download)")
        pytest.fail(done.stderr)
    return output


class Function:
    """A deployed function. ``invoke`` gives ``(answer, error)``, one of which is None."""

    def __init__(self, log):
        self._log = log
        self.events = queue.Queue()
        self.answers = queue.Queue()

    def invoke(self, event, *, seconds=60):
        self.events.put((event, seconds))
        kind, body = self.answers.get(timeout=60)
        answer = json.loads(body)
        return (answer, None) if kind == "response" else (None, answer)

    @property
    def log(self):
        return self._log.read_text()


@contextmanager
def deployed(archive, handler, *, folder, environment):
    """The function in ``archive``, running until the block ends. It sees only ``environment``."""
    python = _empty_environment(folder / "venv")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder / "task")
    function = Function(folder / "log")
    with _runtime_api(function) as address, function._log.open("wb") as log:
        process = subprocess.Popen(
            [python, "-s", "-m", "awslambdaric", handler],
            cwd=folder / "task",
            stdout=log,
            stderr=log,
            env={
                "AWS_LAMBDA_RUNTIME_API": address,
                "AWS_LAMBDA_FUNCTION_NAME": "rotation",
                "AWS_LAMBDA_FUNCTION_VERSION": "1",
                "LAMBDA_TASK_ROOT": str(folder / "task"),
                **environment,
            },
        )
        try:
            yield function
        finally:
            process.kill()
            process.wait()


def _empty_environment(folder):
    """A Python with AWS's runtime client and nothing else: links to what is installed here."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in CLIENT:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            pytest.skip(f"not run: awslambdaric ({name} is not installed)")
        for top in {file.parts[0] for file in files if file.parts[0] != ".."}:
            (packages / top).symlink_to(files[0].locate().parents[len(files[0].parts) - 1] / top)
    return folder / "bin" / "python"


@contextmanager
def _runtime_api(function):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            event, seconds = function.events.get()
            body = json.dumps(event).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header(
                "Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
            )
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:rotation")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            function.answers.put((self.path.rpartition("/")[2], body))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # the function is killed while it waits
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
