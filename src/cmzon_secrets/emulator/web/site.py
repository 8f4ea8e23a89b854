"""What every page shares: its frame, its headers, and the forms that it takes back.

Pages are rendered here and work without a script. A form carries ``csrf``, a value that only a page
of this emulator can know; what it asks for is done by the same functions that the API and the
controls call, and their refusals are shown beside the form.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.http.answers import Abort, Refusal, not_written
from cmzon_secrets.emulator.http.guard import check_local, own_address
from cmzon_secrets.emulator.http.requests import LARGEST_BODY, client_address, read_body

if TYPE_CHECKING:
    import asyncio

    from jinja2 import Environment

__all__ = ["HOME", "PAGES", "SECURITY_HEADERS", "Form", "Site"]

HOME = "/dashboard"
PAGES = {
    HOME: "Messages",
    "/dashboard/tokens": "API Settings",
    "/dashboard/rotation": "Rotation",
    "/dashboard/rehearse": "Rehearse",
    "/dashboard/audit": "Audit trail",
}
"""What the navigation leads to."""

FOLDER = Path(__file__).parent
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" a form's Origin would be "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MOST_FIELDS = 100

View = Callable[[Request], Awaitable[Response]]


class Form(dict[str, str]):
    """A form's fields, stripped; of a name that is there twice the first. ``many`` has them all."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__({name: value.strip() for name, value in reversed(pairs)})
        self._pairs = pairs

    def many(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for given, value in self._pairs if given == name]

    def number(self, name: str) -> float | str | None:
        """The number in a field; None where it is empty, and the text itself where it is none.

        The text goes on to the check that refuses it by name.
        """
        text = self.get(name, "")
        try:
            return (int(text) if text.lstrip("-").isdecimal() else float(text)) if text else None
        except ValueError:
            return text


class Site:
    """The dashboard of one account. ``stopping`` ends what would go on for ever.

    ``ca`` is the file of the CA that clients have to trust; None without TLS.
    """

    def __init__(
        self,
        account: Account,
        api_routes: Sequence[str],
        *,
        stopping: asyncio.Event,
        ca: str | None = None,
    ) -> None:
        self.account = account
        self.api_routes = list(api_routes)
        self.stopping = stopping
        self.ca = ca
        self._csrf = secrets.token_urlsafe(32)

    def get(self, path: str, view: View) -> Route:
        """A page."""
        return Route(path, self.guarded(view), methods=["GET"])

    def post(self, path: str, act: Callable[[Request, Form], Awaitable[Response]]) -> Route:
        """What a form asks for. A Refusal from ``act`` has to be caught where the form is shown."""

        async def taken(request: Request) -> Response:
            return await act(request, await self._form(request))

        return Route(path, self.guarded(taken), methods=["POST"])

    def page(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """A page in the common frame."""
        rendered = self._templates.get_template(template).render(**self._frame(request), **context)
        return HTMLResponse(rendered, status_code=status, headers=SECURITY_HEADERS)

    def refused(self, request: Request, refusal: Refusal, **context: Any) -> Response:
        """A page that says what was refused, and leads back to the one it is about."""
        about = max((page for page in PAGES if request.scope["path"].startswith(page)), key=len)
        context |= {"refusal": refusal, "about": about}
        response = self.page(request, "refused.html", status=refusal.status, **context)
        response.headers.update(refusal.headers)
        return response

    def guarded(self, view: View) -> View:
        """``view``, for this machine alone; a Refusal from it is a page."""

        @wraps(view)
        async def guarded(request: Request) -> Response:
            try:
                check_local(request)
            except Refusal as refusal:  # without a page: a foreign one learns nothing from it
                return refusal.response()
            try:
                return await view(request)
            except Refusal as refusal:
                return self.refused(request, refusal)
            except sqlite3.Error:
                return self.refused(request, not_written())
            except ClientDisconnect:
                return Abort()

        return guarded

    def origin(self, request: Request) -> Origin:
        """Who did it, for the audit trail."""
        return Origin("dashboard", client_address(request))

    @staticmethod
    def back_to(path: str, done: str) -> Response:
        """To a page that says what was done; ``done`` is a key of ``DONE`` in the frame's template."""
        return RedirectResponse(
            f"{path}?done={done}", status_code=HTTPStatus.SEE_OTHER, headers=SECURITY_HEADERS
        )

    def _frame(self, request: Request) -> Mapping[str, Any]:
        account = self.account
        return {
            "path": request.scope["path"],
            "query": dict(request.query_params),
            "done": request.query_params.get("done", ""),
            "csrf": self._csrf,
            "account": account,
            "now": account.clock.timestamp(),
            "version": account.changes.version,
            "faults": list(account.faults),
            "quota": account.messages.limits.quota,
            "base_url": own_address(request),
            "ca": self.ca,
            "pages": PAGES,
        }

    @cached_property
    def _templates(self) -> Environment:
        from cmzon_secrets.emulator.web.templates import make_environment

        return make_environment(FOLDER / "templates")

    async def _form(self, request: Request) -> Form:
        body, complete = await read_body(request)
        if not complete:
            raise Refusal(413, "Refused", f"The form is longer than {LARGEST_BODY} bytes")
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"
            )
        except ValueError:
            raise Refusal(400, "Refused", "The form cannot be read: load its page again") from None
        form = Form(pairs)
        if not hmac.compare_digest(form.get("csrf", "").encode(), self._csrf.encode()):
            raise Refusal(
                403, "Refused", "The page is from before the emulator was started: load it again"
            )
        return form


def static(name: str, media_type: str) -> View:
    """A file that lies beside the templates."""

    async def file(request: Request) -> Response:  # noqa: ARG001  # the router passes it
        return FileResponse(
            FOLDER / "static" / name, media_type=media_type, headers=SECURITY_HEADERS
        )

    return file
