"""The CMzon API: whether it answers, what time it has, and whether it takes the token from here.

The token is verified by the issuer, which asks the API with the token itself; that changes nothing.
The time comes from an answer to a request without a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    CMzonSecretsError,
    PermissionDenied,
)
from cmzon_secrets.examinations.endpoints import clock_finding, tls_finding
from cmzon_secrets.findings import Finding
from cmzon_secrets.http import Session
from cmzon_secrets.issuer import TokenInfo, TokenIssuer
from cmzon_secrets.tokens import Token

__all__ = ["MANAGE", "SENDING", "examine_acceptance", "examine_endpoint"]

MANAGE = "tokens:manage"
SENDING = frozenset({"messages:send", "whatsapp_business"})


def examine_endpoint(base_url: str | None, *, ca: str | None, now: datetime) -> Iterator[Finding]:
    """Whether the API answers at all, over which TLS, and what its clock says."""
    session = Session(base_url, ca=ca)
    try:
        answer = session.send("GET", "/v1/messages")
    except APIError as error:
        yield Finding("reachability.api", "problem", str(error), session.base_url, error.hint)
        return
    finally:
        session.close()
    evidence = f"{session.base_url}: {answer.status} to a request without a token"
    yield Finding("reachability.api", "ok", "the API answers", evidence)
    yield tls_finding("tls.api", session.base_url, ca=ca, now=now)
    date = answer.date
    if date is None:
        yield Finding("clock.api", "note", "not checked: the API sends no Date", evidence)
    else:
        yield clock_finding("clock.api", "the API", now - date)


def examine_acceptance(
    issuer: TokenIssuer, token: Token, *, wanted: frozenset[str], what: str = "token"
) -> Iterator[Finding]:
    """Whether the API takes the token from this address, and what it may do.

    ``wanted``: one of these scopes it needs. ``what`` names it, and with _ for blanks the checks.
    """
    check = f"api.{what.replace(' ', '_')}"
    try:
        info = issuer.verify(token)
    except AuthenticationError as error:
        message = f"the API refuses the {what} (401)"
        yield Finding(check, "problem", message, str(error), error.hint)
    except PermissionDenied as error:
        yield _kept_out(f"{check}_egress", error, token, what)
    except CMzonSecretsError as error:
        message = f"not known whether the API takes the {what}"
        yield Finding(check, "warning", message, str(error), error.hint)
    else:
        yield _accepted(check, info, what)
        yield _from_here(f"{check}_egress", token, what, told=issuer.lists)
        yield from _scopes(f"{check}_scopes", info.scopes or token.scopes, wanted, what)


def _accepted(check: str, info: TokenInfo, what: str) -> Finding:
    used = "never used, as far as it tells"
    if info.last_used_at is not None:
        used = f"last used at {info.last_used_at:%Y-%m-%d %H:%M} UTC"
        used += f" from {info.last_used_ip}" if info.last_used_ip else ""
    return Finding(check, "ok", f"the API takes the {what}", f"{info.id}: {used}")


def _kept_out(check: str, error: PermissionDenied, token: Token, what: str) -> Finding:
    recorded = ", ".join(token.allowed_ips) or "no addresses recorded"
    return Finding(
        check,
        "problem",
        f"the API does not take the {what} from this machine's address (403)",
        f"{error}; allowed_ips: {recorded}",
        "add the address this machine goes out with to the token's allowed IPs in the dashboard,"
        " or rotate from an allowed one with --allowed-ip",
    )


def _from_here(check: str, token: Token, what: str, *, told: bool) -> Finding:
    """``told``: the API itself said that it takes the token from here, not only that it lives."""
    if not token.allowed_ips:
        evidence = "no allowed_ips are recorded with it"
        message = f"as far as is recorded, the {what} may be used from any address"
        return Finding(check, "note", message, evidence, "rotate with --allowed-ip ADDRESS")
    evidence = f"allowed_ips: {', '.join(token.allowed_ips)}"
    if not told:
        message = "not known whether this machine's address is among its allowed IPs"
        return Finding(check, "note", message, evidence, "send a message from here")
    return Finding(check, "ok", "this machine's address is among its allowed IPs", evidence)


def _scopes(
    check: str, scopes: tuple[str, ...], wanted: frozenset[str], what: str
) -> Iterator[Finding]:
    evidence = f"scopes: {', '.join(scopes) or 'not told'}"
    if not scopes:
        yield Finding(check, "note", "not known what it may do", evidence)
        return
    if not wanted & set(scopes):
        message = f"the {what} lacks the scope {' or '.join(sorted(wanted))}"
        yield Finding(check, "problem", message, evidence, "make one that has it, and put it")
    if MANAGE in set(scopes) - wanted:
        message = f"the {what} may make and revoke tokens, which nobody who sends needs"
        remedy = "rotate with --scope messages:send, and keep an admin token apart"
        yield Finding(check, "warning", message, evidence, remedy)
    elif wanted & set(scopes):
        yield Finding(check, "ok", f"the {what} may do what it is for", evidence)
