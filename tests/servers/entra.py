"""A double of Microsoft Entra ID and of the managed identity endpoints of Azure's hosts.

Strict where azure-identity could be wrong: the token endpoint checks client, secret, the signature and
audience of assertions, and the scope; tokens are RS256 JWTs that a resource can verify. Errors have the
documented shape (`error`, `error_description` with an AADSTS code, `error_codes`).

    https://localhost:PORT/TENANT/v2.0/.well-known/openid-configuration and …/oauth2/v2.0/token
    http://localhost:PORT/metadata/identity/oauth2/token   (IMDS) and …/msi/token   (App Service)
"""

import json
import ssl
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "api://AzureADTokenExchange"
CLUSTER = "https://oidc.cluster.example/"
SUBJECT = "system:serviceaccount:apps:rotator"


class App:
    """An application, or a managed identity: who a token is for."""

    def __init__(self, *, secret=None, certificate=None, federated=False, resource_id=""):
        self.client_id = str(uuid.uuid4())
        self.object_id = str(uuid.uuid4())
        self.secret = secret
        self.secret_expired = False
        self.certificate = certificate
        self.federated = federated
        self.resource_id = resource_id


class Entra:
    """``verified(token)`` is what a resource does with what ``issue`` made."""

    def __init__(self, folder):
        ca = trustme.CA()
        self.ca = folder / "entra-ca.pem"
        ca.cert_pem.write_to_path(str(self.ca))
        self.apps = {}
        self.lifetime = 3600
        self.issued = []
        self.asked = []
        self.failure = None
        self.delay = 0.0
        self.identity_header = uuid.uuid4().hex
        self.managed = self.add(App())
        self._key = _new_key()
        self._cluster_key = _new_key()
        self.https = _serve(self, _context(ca))
        self.http = _serve(self, None)

    @property
    def authority(self):
        return f"localhost:{self.https.server_port}"

    @property
    def host_endpoint(self):
        return f"http://localhost:{self.http.server_port}"

    def add(self, app):
        self.apps[app.client_id] = app
        return app

    def reset(self):
        self.lifetime, self.delay, self.failure = 3600, 0.0, None
        self.asked.clear()

    def close(self):
        for server in (self.https, self.http):
            server.shutdown()
            server.server_close()

    @contextmanager
    def failing(self, status, body=b"", content_type="application/json"):
        """Every token request is answered like this."""
        self.failure = (status, body, content_type)
        try:
            yield
        finally:
            self.failure = None

    def federated_token(self, *, subject=SUBJECT, issuer=CLUSTER):
        """What Kubernetes writes into AZURE_FEDERATED_TOKEN_FILE."""
        claims = {"iss": issuer, "sub": subject, "aud": EXCHANGE, "exp": time.time() + 600}
        return jwt.encode(claims, self._cluster_key, algorithm="RS256")

    def issue(self, app, resource):
        now = int(time.time())
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
            "appid": app.client_id,
            "oid": app.object_id,
            "tid": TENANT,
        }
        token = jwt.encode(claims, self._key, algorithm="RS256")
        self.issued.append(token)
        return token, claims

    def verified(self, token, *, audience="https://vault.azure.net"):
        """The claims. Raises jwt.PyJWTError."""
        return jwt.decode(token, self._key.public_key(), algorithms=["RS256"], audience=audience)

    # the authority

    def configuration(self, tenant):
        if tenant != TENANT:
            return 400, _error("invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        base = f"https://{self.authority}/{TENANT}"
        return 200, {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
        }

    def token(self, tenant, form):
        if tenant != TENANT:
            return 400, _error("invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        app = self.apps.get(form.get("client_id"))
        if form.get("grant_type") != "client_credentials":
            return 400, _error("unsupported_grant_type", 70003, "The grant type is not supported.")
        if app is None:
            return 400, _error("unauthorized_client", 700016, "Application was not found.")
        refusal = self._refusal(app, form)
        if refusal:
            return 401, _error("invalid_client", *refusal)
        scope = form.get("scope", "").split()[0]
        if not scope.endswith("/.default"):
            return 400, _error("invalid_scope", 1002012, "The provided scope is not valid.")
        token, claims = self.issue(app, scope.removesuffix("/.default"))
        seconds = claims["exp"] - claims["iat"]
        return 200, {
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": token,
        }

    def _refusal(self, app, form):
        if "client_assertion" in form:
            return self._assertion_refusal(app, form)
        if app.secret is None or form.get("client_secret") != app.secret:
            return 7000215, "Invalid client secret provided."
        if app.secret_expired:
            return 7000222, "The provided client secret keys are expired."
        return None

    def _assertion_refusal(self, app, form):
        if form.get("client_assertion_type") != ASSERTION:
            return 50027, "Invalid JWT token."
        assertion = form["client_assertion"]
        header = jwt.get_unverified_header(assertion)
        if "x5t" in header or "x5t#S256" in header:
            return self._certificate_refusal(app, assertion, header)
        try:
            claims = jwt.decode(
                assertion,
                self._cluster_key.public_key(),
                algorithms=["RS256"],
                audience=EXCHANGE,
            )
        except jwt.ExpiredSignatureError:
            return 700024, "Client assertion is not within its valid time range."
        except jwt.PyJWTError:
            return 50027, "Invalid JWT token."
        if not app.federated or claims["iss"] != CLUSTER:
            return 700211, "No matching federated identity record found for presented issuer."
        if claims["sub"] != SUBJECT:
            return 700213, "No matching federated identity record found for presented subject."
        return None

    def _certificate_refusal(self, app, assertion, header):
        certificate = app.certificate
        if certificate is None or _thumbprint(certificate, header) is False:
            return 700027, "The certificate used to sign the client assertion is not registered."
        if certificate.not_valid_after_utc < datetime.now(UTC):
            return 700027, "The certificate used to sign the client assertion is expired."
        try:
            jwt.decode(
                assertion,
                certificate.public_key(),
                algorithms=["RS256", "PS256"],
                audience=f"https://{self.authority}/{TENANT}/oauth2/v2.0/token",
                subject=app.client_id,
                issuer=app.client_id,
            )
        except jwt.PyJWTError:
            return 50012, "Authentication failed: the signature or audience is not right."
        return None

    # the hosts

    def imds(self, query, headers):
        if headers.get("Metadata") != "true" or query.get("api-version") != "2018-02-01":
            return 400, {
                "error": "invalid_request",
                "error_description": "Required metadata header",
            }
        return self._managed_token(query)

    def app_service(self, query, headers):
        if headers.get("X-IDENTITY-HEADER") != self.identity_header:
            return 401, {"statusCode": 401, "message": "The secret in the header is not right."}
        if query.get("api-version") != "2019-08-01":
            return 400, {"statusCode": 400, "message": "Unsupported api-version."}
        return self._managed_token(query)

    def _managed_token(self, query):
        app = self.apps.get(query.get("client_id", self.managed.client_id))
        if app is None:
            return 400, {"error": "invalid_request", "error_description": "Identity not found"}
        resource = query["resource"].removesuffix("/.default")
        token, claims = self.issue(app, resource)
        return 200, {
            "access_token": token,
            "client_id": app.client_id,
            "expires_in": str(claims["exp"] - claims["iat"]),
            "expires_on": str(claims["exp"]),
            "resource": resource,
            "token_type": "Bearer",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    entra: Entra

    def do_GET(self):
        self._answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer({k: v[0] for k, v in parse_qs(body).items()})

    def _answer(self, form):
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        self.entra.asked.append((self.command, url.path))
        time.sleep(self.entra.delay)
        if self.entra.failure and "openid" not in url.path:
            return self._send(*self.entra.failure)
        status, body = self._route(url.path, query, form)
        return self._send(status, json.dumps(body).encode())

    def _route(self, path, query, form):
        match self.command, path.strip("/").split("/"):
            case "GET", [tenant, "v2.0", ".well-known", "openid-configuration"]:
                return self.entra.configuration(tenant)
            case "POST", [tenant, "oauth2", "v2.0", "token"]:
                return self.entra.token(tenant, form)
            case "GET", ["metadata", "identity", "oauth2", "token"]:
                return self.entra.imds(query, self.headers)
            case "GET", ["msi", "token"]:
                return self.entra.app_service(query, self.headers)
        return 404, {"error": "not_found"}

    def _send(self, status, body, content_type="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def _serve(entra, context):
    handler = type("Handler", (_Handler,), {"entra": entra})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is no failure of ours
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    ).start()
    return server


def _context(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def _error(error, code, text):
    return {
        "error": error,
        "error_description": f"AADSTS{code}: {text} Trace ID: {uuid.uuid4()}",
        "error_codes": [code],
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }


def _thumbprint(certificate, header):
    wanted = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}
    return all(
        urlsafe_b64encode(certificate.fingerprint(wanted[name])).rstrip(b"=").decode()
        == value.rstrip("=")
        for name, value in header.items()
        if name in wanted
    )


def _new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def new_certificate(path, *, password=None, days=30):
    """A self-signed certificate with its key, written to ``path`` as PEM."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rotator")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    encryption = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


@pytest.fixture(scope="session")
def entra(tmp_path_factory):
    double = Entra(tmp_path_factory.mktemp("entra"))
    yield double
    double.close()


@pytest.fixture
def entra_before_key_vault(entra, key_vault, tmp_path, monkeypatch):
    """Key Vault takes tokens of this Entra ID, and nothing in the environment says who we are.

    The principal is the token's ``appid``: ``key_vault.vault().assign(app.client_id, …)``.
    """

    def principal(token):
        try:
            return entra.verified(token)["appid"]
        except jwt.PyJWTError:
            return None

    both = tmp_path / "both-ca.pem"
    both.write_bytes(entra.ca.read_bytes() + Path(key_vault.ca).read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(both))
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    key_vault.authenticators.append(principal)
    entra.reset()
    yield entra
    key_vault.authenticators.remove(principal)
