"""The wire to a Vault or OpenBao server: one request, one decoded answer, or an error of ours.

``hvac`` puts a request together; its exceptions are not used, because they drop status and headers
and keep the whole body, which may be a secret. ``vault_errors.py`` says what each answer means.

No proxy or netrc is taken from the environment, and no redirect to another host followed: the
token would go along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from cmzon_secrets.clouds.vault_connections import transport
from cmzon_secrets.clouds.vault_errors import (
    Answer,
    Outcome,
    OutcomeUnknown,
    Refused,
    broken,
    judged,
)
from cmzon_secrets.deadline import Deadline, backoff
from cmzon_secrets.errors import ConfigurationError, ProviderUnavailable, missing_extra

if TYPE_CHECKING:
    import ssl

__all__ = ["Request", "TLSFiles", "Wire"]

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds; the deadline of a verb is what bounds all of its calls together."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes: a stored value is at most 1 MiB, and JSON may need six for one of them."""
POOL = 64
"""Connections kept; more threads than this are served too, with connections of their own."""
BACKOFF, MAX_BACKOFF = 0.1, 2.0
"""Seconds of the first and of the longest wait before another try; drawn between 0 and that."""


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` below ``/v1/``, not quoted yet. ``repeatable``: sending it twice does no harm."""

    method: str
    path: str
    json: Any = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = None
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """``ca``: a PEM file or a folder of them (None: the system's); ``cert`` and ``key``: our own
    certificate; ``server_name``: whose certificate is expected, where the address has another."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


class Wire:
    """Connections to one address and namespace. Thread-safe. Raises ConfigurationError for TLS
    files that cannot be used, and where ``hvac`` is missing."""

    def __init__(self, address: str, namespace: str | None, tls: TLSFiles) -> None:
        self._address = address
        self._adapter = _adapter(address, namespace, tls)

    def exchange(self, request: Request, deadline: Deadline, uri: str) -> Answer:
        """Send it, again where that can help, until the deadline. ``uri`` begins each error.

        Raises Refused, OutcomeUnknown, ProviderUnavailable, ConfigurationError, or TokenNotFound
        where nothing is mounted there.
        """
        before: Outcome | None = None
        tries = 0
        while True:
            outcome = self._attempt(request, deadline, uri)
            if isinstance(outcome, Answer):
                return outcome
            again = _again(outcome, request)
            if again and before is not None and not deadline.remaining:
                outcome = before  # "sealed" says more than that the time was up then
            tries += 1
            wait = max(outcome.retry_after, backoff(tries, BACKOFF, MAX_BACKOFF))
            if not again or wait >= deadline.remaining:
                raise _as_told(outcome, request, uri) from outcome.cause
            before = outcome
            deadline.pause(wait)

    def _attempt(self, request: Request, deadline: Deadline, uri: str) -> Answer | Outcome:
        import requests

        if not deadline.remaining:
            return Outcome("not served", deadline.passed())
        try:
            status, headers, body = deadline.call(self._send, request, deadline.remaining)
        except (requests.RequestException, OSError, ValueError) as error:
            return broken(error, address=self._address, uri=uri)
        except ProviderUnavailable as late:
            return Outcome("unknown", late)
        return judged(status, headers, body, address=self._address, uri=uri)

    def _send(self, request: Request, seconds: float) -> tuple[int, Mapping[str, str], bytes]:
        path, params = f"/v1/{quote(request.path, safe='/')}", request.params
        for _hop in range(3):
            response = self._adapter.request(
                request.method,
                path,
                headers={"X-Vault-Token": request.token} if request.token else {},
                json=request.json,
                params=params,
                timeout=(min(CONNECT_TIMEOUT, seconds), min(READ_TIMEOUT, seconds)),
                stream=True,
                raise_exception=False,
            )
            with response:
                body = _bounded(response)
                target = urljoin(response.url, response.headers.get("Location", ""))
                same_host = target.startswith(f"{self._address}/v1/")
                if response.status_code not in (307, 308) or not same_host:
                    return response.status_code, response.headers, body
                path, params = target[len(self._address) :], None  # they are in it
        return response.status_code, response.headers, body


# trying again


def _again(outcome: Outcome, request: Request) -> bool:
    return outcome.fate == "not served" or (outcome.fate == "unknown" and request.repeatable)


def _as_told(outcome: Outcome, request: Request, uri: str) -> Exception:
    if isinstance(outcome.error, Refused):
        return outcome.error.without(_secrets(request))
    if outcome.fate == "unknown" and not request.repeatable:
        return OutcomeUnknown(
            f"{outcome.error} — what was sent may have taken effect",
            uri=uri,
            hint="look at the status before doing it again",
        )
    return outcome.error


def _bounded(response: Any) -> bytes:
    """The body, not decompressed: a small one could become a very large one."""
    import requests
    import urllib3

    body = bytearray()
    try:
        for chunk in response.raw.stream(65536, decode_content=False):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise requests.exceptions.ContentDecodingError("longer than any answer may be")
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error
    return bytes(body)


def _secrets(request: Request) -> Iterator[str]:
    sent = request.json if isinstance(request.json, Mapping) else {}
    yield from _strings([v for k, v in sent.items() if k not in _PUBLIC])
    yield from _strings(request.token)


_PUBLIC = frozenset({"role", "paths", "associated_data"})
"""Members of what is sent that a refusal may repeat: of logins, of questions about rights, of transit."""


def _strings(part: Any) -> Iterator[str]:
    """The texts in it that are long enough to be a secret."""
    if isinstance(part, str) and len(part) >= 8:
        yield part
    elif isinstance(part, Mapping | list):
        for inner in part.values() if isinstance(part, Mapping) else part:
            yield from _strings(inner)


# set-up


def _adapter(address: str, namespace: str | None, tls: TLSFiles) -> Any:
    try:
        import requests
        from hvac.adapters import RawAdapter
    except ImportError as error:
        raise missing_extra("vault", "Vault and OpenBao") from error
    from http.cookiejar import DefaultCookiePolicy

    class Session(requests.Session):
        """Redirects are ours to follow: requests would read the whole body of each."""

        def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  # their name
            return None

    session = Session()
    session.trust_env = False
    session.headers["Accept-Encoding"] = "identity"  # nothing else is decoded: see _bounded
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    ca, context = _trust(tls)
    session.verify = ca
    # Ours, for the one that urllib3 makes writes the session keys to $SSLKEYLOGFILE.
    options: dict[str, Any] = {"ssl_context": context}
    if tls.server_name:
        options |= {"server_hostname": tls.server_name, "assert_hostname": tls.server_name}
    both = transport(POOL, **options)
    session.mount("https://", both)
    session.mount("http://", both)
    return RawAdapter(address, session=session, namespace=namespace, allow_redirects=False)


def _trust(tls: TLSFiles) -> tuple[str | bool, ssl.SSLContext]:
    """What ``requests`` calls verify and loads into the context: the given CA or the system's (True:
    those that ``requests`` brings, where there is no other). Raises ConfigurationError for files
    that cannot be used: loaded here first, so that it is told before anything is sent."""
    import ssl

    system = ssl.get_default_verify_paths()
    ca = tls.ca or system.cafile or system.capath
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _usable(f"CA {tls.ca}"):
        if tls.ca:
            context.load_verify_locations(
                **{"capath" if Path(tls.ca).is_dir() else "cafile": tls.ca}
            )
    with _usable(f"client certificate {tls.cert}"):
        if tls.cert:
            # Without a password callback OpenSSL would ask at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password="")
    return ca or True, context


@contextmanager
def _usable(part: str) -> Iterator[None]:
    import ssl

    try:
        yield
    except OSError as error:
        why = "it is not PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{part} — {why}", hint="give the path of a PEM file") from error
