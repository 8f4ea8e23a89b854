"""KMS as the service behaves where the emulators do not: a small strict double for the real SDK.

It speaks the service's JSON protocol over HTTP. Ciphertexts are AES-GCM under the named key with the
context as associated data; each error has the service's own code (AWS KMS API Reference). Signatures
are not checked, access keys are: one that is not in ``access_keys`` is unknown.
"""

import base64
import json
import os
import time
import uuid
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from servers.aws_environment import ACCESS_KEY, REGION, use_aws

ACCOUNT = "111122223333"


class StrictKMS:
    """The double. ``latency``: seconds before each answer."""

    def __init__(self):
        self.url = ""
        self.reset()

    def reset(self):
        """Without keys, faults or calls."""
        self.materials = {}
        self.states = {}
        self.aliases = {}
        self.denied = set()
        self.access_keys = {ACCESS_KEY}
        self.failure, self.failures_left = None, 0
        self.latency = 0.0
        self.calls = []
        self.clock = time.time
        self.raw = None

    def new_key(self):
        """The ARN of a new key."""
        key_id = str(uuid.uuid4())
        self.materials[key_id] = AESGCM(os.urandom(32))
        self.states[key_id] = "Enabled"
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key_id}"

    def set_state(self, arn, state):
        """``Enabled``, ``Disabled`` or ``PendingDeletion``."""
        self.states[arn.rpartition("/")[2]] = state

    def deny(self, arn):
        """Let nobody use the key, as its policy may."""
        self.denied.add(arn.rpartition("/")[2])

    def fail(self, code, message="", status=400, *, times=float("inf")):
        """Answer the next calls, so many of them, with this error."""
        self.failure, self.failures_left = Refusal(code, message, status), times

    def answer(self, operation, access_key, request):
        """Status and body."""
        self.calls.append((operation, access_key))
        time.sleep(self.latency)
        try:
            if self.failures_left > 0:
                self.failures_left -= 1
                raise self.failure
            return 200, self._answer(operation, access_key, request)
        except Refusal as refusal:
            code, message, status = refusal.args
            return status, {"__type": code, "message": message}

    def _answer(self, operation, access_key, request):
        if access_key not in self.access_keys:
            raise Refusal(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        key_id = self._resolved(request["KeyId"])
        arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key_id}"
        if key_id in self.denied:
            user = f"arn:aws:iam::{ACCOUNT}:user/{access_key}"
            why = f"User: {user} is not authorized to perform: kms:{operation} on resource: {arn}"
            raise Refusal("AccessDeniedException", why)
        state = self.states[key_id]
        if state == "Disabled":
            raise Refusal("DisabledException", f"{arn} is disabled.")
        if state != "Enabled":
            raise Refusal("KMSInvalidStateException", f"{arn} is pending deletion.")
        context = json.dumps(request.get("EncryptionContext", {}), sort_keys=True).encode()
        return getattr(self, f"_{operation.lower()}")(key_id, arn, context, request)

    def _resolved(self, name):
        name = name.split(":", 5)[5] if name.startswith("arn:") else name
        name = self.aliases.get(name, name).removeprefix("key/")
        if name not in self.materials:
            raise Refusal("NotFoundException", f"Key '{name}' does not exist")
        return name

    def _encrypt(self, key_id, arn, context, request):
        plaintext = base64.b64decode(request["Plaintext"])
        if not 1 <= len(plaintext) <= 4096:
            raise Refusal("ValidationException", f"Value {plaintext!r} at 'plaintext' is too long")
        nonce = os.urandom(12)
        sealed = self.materials[key_id].encrypt(nonce, plaintext, context)
        blob = b"\x01\x02" + key_id.encode() + nonce + sealed
        return {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": arn}

    def _decrypt(self, key_id, arn, context, request):
        blob = base64.b64decode(request["CiphertextBlob"])
        origin = blob[2:38].decode("ascii", "replace")
        if blob[:2] != b"\x01\x02" or origin not in self.materials:
            raise Refusal("InvalidCiphertextException", "")
        if origin != key_id:
            raise Refusal(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            )
        try:
            plaintext = self.materials[key_id].decrypt(blob[38:50], blob[50:], context)
        except (InvalidTag, ValueError):
            raise Refusal("InvalidCiphertextException", "") from None
        return {"Plaintext": base64.b64encode(plaintext).decode(), "KeyId": arn}


class Refusal(Exception):
    """Code, message, and the status, which is 400 for every fault of a client."""

    def __init__(self, code, message, status=400):
        super().__init__(code, message, status)


@contextmanager
def serving(kms):
    """``kms`` on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, else each answer waits 40 ms

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            access_key = self.headers["Authorization"].split("Credential=")[1].split("/")[0]
            status, body = kms.answer(operation, access_key, request)
            content = json.dumps(body).encode()
            if kms.raw is not None:
                status, content = kms.raw
            self.send_response_only(status)
            self.send_header("Date", formatdate(kms.clock(), usegmt=True))
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kms.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield kms
        finally:
            server.shutdown()


@pytest.fixture(scope="session")
def strict_kms_server():
    with serving(StrictKMS()) as kms:
        yield kms


@pytest.fixture
def strict_kms(strict_kms_server, monkeypatch):
    """The double without keys, as the SDK's environment finds it, with an access key that it knows."""
    use_aws(monkeypatch, url=strict_kms_server.url)
    strict_kms_server.reset()
    return strict_kms_server
