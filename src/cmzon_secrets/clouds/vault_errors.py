"""What each answer of a Vault or OpenBao server and each broken connection means: the one table.

* *not served* (refused, DNS, sealed, standby, throttled): the server did nothing, so reads and writes
  alike are tried again while there is time;
* *unknown* (reset, read timeout, 500): whoever may repeat it does, for any other it is
  ``OutcomeUnknown``;
* *final*: an error of ours, or ``Refused`` where only the caller knows what it means.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from cmzon_secrets.answers import printable
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
    without_frames,
)
from cmzon_secrets.headers import date_in, retry_after

__all__ = ["Answer", "Outcome", "OutcomeUnknown", "Refused", "broken", "judged", "reason"]

Fate = Literal["not served", "unknown", "final"]


class Refused(Exception):
    """The server understood and said no: a 4xx that only the caller can put into words.

    ``errors`` are the server's sentences, none where the answer is not its JSON; ``body`` is the decoded
    answer to a 404, which says what is gone.
    """

    def __init__(self, status: int, errors: tuple[str, ...], body: Mapping[str, Any]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.errors = errors
        self.body = body

    def without(self, secrets: Iterable[str]) -> Refused:
        """Itself, where its sentences hold no part of ``secrets``, which were sent: they end up in
        messages. Else with those of ``KNOWN`` alone."""
        joined = "".join(self.errors)
        if not echoes(joined, secrets):
            return self
        errors = tuple(words for words in KNOWN if words.lower() in joined.lower()) or (
            _NOT_QUOTED,
        )
        return Refused(self.status, errors, {**self.body, "errors": list(errors)})

    @property
    def said(self) -> str:
        """The server's sentences in one printable line."""
        return printable("; ".join(self.errors)) or "without an explanation"


KNOWN = (
    "1 error occurred",
    "permission denied",
    "invalid role or secret ID",
    "check-and-set parameter did not match",
    "upgrading from non-versioned",
    "message authentication failed",
    "invalid ciphertext",
    "too old",
    "key not found",
    "non-aead",
    "missing 'context'",
)
"""Words of the server's own by which callers know what it means, in any letters."""

_NOT_QUOTED = "in words that repeat what was sent"

WINDOW = 8
"""Characters in a row that are no coincidence."""
LONGEST = 4096
"""Characters of sentences that are looked through; longer ones are not quoted."""


def echoes(text: str, secrets: Iterable[str]) -> bool:
    """Whether a part of a secret is in ``text``: as it is, cut, split, in other letters or in base64."""
    if len(text) > LONGEST:
        return True
    plain = _plain(text)
    windows = {*_windows(text.lower()), *_windows(plain)}
    forms = (form for secret in secrets for form in _forms(secret))
    return any(not windows.isdisjoint(_windows(f)) or (len(f) >= 4 and f in plain) for f in forms)


def _forms(secret: str) -> Iterator[str]:
    """How it may look in ``echoes``' small letters."""
    yield from (secret.lower(), _plain(secret))
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):  # where in a group of three bytes it begins
        whole = raw[before : len(raw) - (len(raw) - before) % 3]
        yield _plain(b64encode(whole).decode())


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _windows(text: str) -> Iterator[str]:
    return (text[i : i + WINDOW] for i in range(len(text) - WINDOW + 1))


def reason(error: CMzonSecretsError) -> str:
    """What one of ours says, without the place that it begins with."""
    return error.message.partition(" — ")[2]


class OutcomeUnknown(ProviderUnavailable):
    """The answer to a write was lost: it may have taken effect. Look before sending it again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. ``date``: the server's clock, None where it does not say."""

    status: int
    body: dict[str, Any] = field(repr=False)
    date: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt: an answer, or why there is none and whether to try again."""

    fate: Fate
    error: Exception
    cause: BaseException | None = None
    retry_after: float = 0.0


# answers


@dataclass(frozen=True, slots=True)
class _Row:
    """An answer with one of ``statuses`` and ``words`` in one of its sentences (in small letters)."""

    statuses: tuple[int, ...]
    words: str
    fate: Fate
    error: type[CMzonSecretsError]
    said: str
    hint: str | None = None

    def told(self, where: str, uri: str) -> CMzonSecretsError:
        """The error, about ``where``."""
        error = self.error(f"{where} {self.said}", hint=self.hint)
        if isinstance(error, ProviderError):
            error.uri = uri
        return error


_ROWS = (
    _Row(
        (503,),
        "sealed",
        "not served",
        ProviderUnavailable,
        "is sealed",
        "an operator has to unseal it: bao operator unseal",
    ),
    _Row((503, 472, 473), "", "not served", ProviderUnavailable, "serves no requests at present"),
    _Row(
        (429,),
        "",
        "not served",
        ProviderUnavailable,
        "throttles requests (429)",
        "a rate limit quota is used up: read less often, or raise it",
    ),
    _Row((400, 500), "readonly storage", "not served", ProviderUnavailable, "is a standby"),
    _Row((400,), "upgrading from non-versioned", "not served", ProviderUnavailable, "is upgrading"),
    _Row((412,), "", "not served", ProviderUnavailable, "has not caught up with its leader"),
    _Row((500,), "not active", "not served", ProviderUnavailable, "has no active leader"),
    _Row(
        (500,),
        "value being too large",
        "final",
        ConfigurationError,
        "takes no value of this size",
        "its storage holds 1 MiB in one secret",
    ),
    _Row(
        (400,),
        "http request to an https server",
        "final",
        ConfigurationError,
        "speaks https",
        "write https:// in the address",
    ),
    _Row(
        (404,),
        "no handler for route",
        "final",
        TokenNotFound,
        "has nothing mounted there",
        "check the mount, the first part of the path: bao secrets list",
    ),
    _Row(
        (404,),
        "namespace not found",
        "final",
        ConfigurationError,
        "has no such namespace",
        "check namespace= and VAULT_NAMESPACE: bao namespace list",
    ),
)


def judged(
    status: int, headers: Mapping[str, str], body: bytes, *, address: str, uri: str
) -> Answer | Outcome:
    """What the server said. ``uri`` begins the error, ``address`` is whom it is about."""
    where, document = f"{uri} — {address}", _decoded(body)
    if status >= 400:
        sentences = _sentences(document or {})
        refusal = Refused(status, sentences, document or {} if status == 404 else {})
        said = " ".join(sentences) or body[:200].decode("ascii", "replace")
        return _failed(refusal, said.lower(), headers, where, uri)
    if status >= 300:
        return Outcome("final", _redirected(headers.get("Location", ""), where, uri))
    if document is None:
        problem = f"{where} — its answer is not a JSON object: is it a Vault server?"
        return Outcome("final", ConfigurationError(problem, hint="check the address"))
    return Answer(status, document, date_in(headers.get("Date")))


def _failed(
    refusal: Refused, said: str, headers: Mapping[str, str], where: str, uri: str
) -> Outcome:
    for row in _ROWS:
        if refusal.status in row.statuses and row.words in said:
            wait = retry_after(headers.get("Retry-After"))
            return Outcome(row.fate, row.told(where, uri), retry_after=wait)
    if refusal.status >= 500:
        error = ProviderUnavailable(f"{where} answers {refusal.status}", uri=uri)
        return Outcome("unknown", error)
    return Outcome("final", refusal)


def _redirected(target: str, where: str, uri: str) -> ProviderUnavailable:
    origin = "somewhere"
    with suppress(ValueError):
        parts = urlsplit(target)
        origin = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}") or origin
    return ProviderUnavailable(
        f"{where} redirects to {origin} — it is not followed: the token would go there",
        uri=uri,
        hint="this server is a standby: use the leader's address, or a load balancer that finds it",
    )


def _sentences(body: Mapping[str, Any]) -> tuple[str, ...]:
    errors = body.get("errors")
    return tuple(e for e in errors if isinstance(e, str)) if isinstance(errors, list) else ()


def _decoded(body: bytes) -> dict[str, Any] | None:
    """The JSON object; {} for an empty body (204), None for anything else."""
    if not body:
        return {}
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        return document if isinstance(document, dict) else None
    return None


# broken connections


def broken(error: Exception, *, address: str, uri: str) -> Outcome:
    """Why no answer came. ``error`` is what ``requests`` raised."""
    import requests

    where, reason = f"{uri} — {address}", _root(error)
    why = printable(reason.strerror) if isinstance(reason, OSError) else None
    silent = ProviderUnavailable(
        f"{where} gives no answer: {(why or type(reason).__name__).lower()}",
        uri=uri,
        hint="check the address and the network",
    )
    cause = _harmless(error)
    if isinstance(error, ValueError):  # InvalidURL, InvalidHeader and their like
        said = f"{where} — the address, or where it redirects to, is malformed"
        return Outcome("final", ConfigurationError(said), cause)
    if isinstance(error, requests.exceptions.SSLError):
        problem = _tls_problem(str(error), where)
        return Outcome("final" if problem else "unknown", problem or silent, cause)
    return Outcome("not served" if _never_left(error) else "unknown", silent, cause)


def _tls_problem(text: str, where: str) -> ConfigurationError | None:
    """What OpenSSL's words mean where trying again is no use."""
    for words, said, hint in _TLS_ROWS:
        if any(word in text for word in words):
            return ConfigurationError(f"{where} {said}", hint=hint)
    return None


_TLS_ROWS = (
    (
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"),
        "does not speak TLS",
        "check scheme and port of the address",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "doesn't match"),
        "— its certificate is not trusted, or is another server's",
        "name the CA that signed it: ca=PATH or VAULT_CACERT; the certificate must be for the host in the address",
    ),
    (
        ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "HANDSHAKE_FAILURE"),
        "wants a client certificate",
        "export VAULT_CLIENT_CERT and VAULT_CLIENT_KEY",
    ),
)


def _never_left(error: Exception) -> bool:
    """No connection was made, so the server cannot have acted on the request."""
    import requests
    import urllib3

    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _harmless(error: Exception) -> BaseException | None:
    """The native error as a cause, without the request that it carries: its headers hold the token.

    One about the protocol is dropped, for it quotes what the server sent.
    """
    import requests
    import urllib3

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, urllib3.exceptions.ProtocolError | requests.exceptions.InvalidHeader):
            return None
        if isinstance(link, requests.RequestException):
            link.request = link.response = None
        link = link.__cause__ or link.__context__
    return without_frames(error)


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
