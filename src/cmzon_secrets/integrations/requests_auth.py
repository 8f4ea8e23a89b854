"""The current token on every request of Requests.

    from cmzon_secrets.integrations.requests_auth import TokenAuth

    session = requests.Session()
    session.auth = TokenAuth("file:token.sealed?key=keyfile:token.key")

Given as ``auth`` it outranks ``.netrc``. It says nothing on what else Requests takes from the
environment: proxies, even to this machine, and ``REQUESTS_CA_BUNDLE``, which outranks
``session.verify``; ``session.trust_env = False`` turns both off. Needs the extra ``requests``.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from cmzon_secrets.errors import missing_extra
from cmzon_secrets.integrations.authorizing import Authorizer, Bearer
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

try:
    import requests
    from requests.auth import AuthBase
    from requests.exceptions import UnrewindableBodyError
    from requests.utils import rewind_body
except ImportError as error:
    raise missing_extra("requests", "TokenAuth for Requests") from error

__all__ = ["TokenAuth"]


class TokenAuth(AuthBase):
    """``auth=`` of Requests: the token at the time of each request. Thread-safe, fork-safe.

    A 401 is answered by sending the request once more, if there is a different token by then and
    its body can be sent again: a generator cannot. The answer returned has the first one in its
    ``history``. A redirect to another host loses the token, as Requests has it, but a 307 or 308 not
    the body.

    ``provider``: a TokenCache, any other provider, or a URI, which ``close`` closes. ``base_url``:
    default ``$CMZON_BASE_URL``, else the vendor's; a request to any other origin raises
    ConfigurationError before a byte is sent. Sending raises what the provider raises, too.

    The errors of Requests keep their frames, and in these the header's bytes: a reporter that
    prints locals may show them. ``Client`` and ``vendor_example`` remove them.
    """

    def __init__(self, provider: TokenProvider | str, *, base_url: str | None = None) -> None:
        self._authorizer = Authorizer(provider, base_url=base_url)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        self._authorizer.check(*_origin(r))
        token = self._authorizer.get()
        r.headers["Authorization"] = Bearer.of(token)
        r.register_hook("response", partial(self._answered, token))
        return r

    def close(self) -> None:
        """Close what a URI opened."""
        self._authorizer.close()

    def __repr__(self) -> str:
        return f"<TokenAuth {self._authorizer}>"

    def _answered(
        self, token: Token, response: requests.Response, **options: Any
    ) -> requests.Response:
        """The answer, or the one to the request sent again. Requests calls it after redirects, too."""
        if response.status_code != 401 or not self._carried(token, response.request):
            return response
        self._authorizer.reject(token)
        _ = response.content  # read to its end, the connection serves the next request
        response.close()
        if not _rewound(response.request):
            return response
        another = self._authorizer.get()
        return response if another == token else self._again(another, response, options)

    def _carried(self, token: Token, request: requests.PreparedRequest) -> bool:
        header = request.headers.get("Authorization")
        return header == Bearer.of(token) and self._authorizer.trusts(*_origin(request))

    def _again(
        self, token: Token, refused: requests.Response, options: dict[str, Any]
    ) -> requests.Response:
        request, refused.request = refused.request, refused.request.copy()
        # In place: a redirect that follows is made from it, and must not carry the refused token.
        request.headers["Authorization"] = Bearer.of(token)
        response = refused.connection.send(request, **options)
        response.history.append(refused)
        if response.status_code == 401:
            self._authorizer.reject(token)
        return response


def _origin(request: requests.PreparedRequest) -> tuple[str, str, int | None]:
    parts = urlsplit(str(request.url))  # as Requests reads it to connect
    return parts.scheme, parts.hostname or "", parts.port


def _rewound(request: requests.PreparedRequest) -> bool:
    """Whether the body is as it was before it was sent."""
    if request.body is None or isinstance(request.body, str | bytes):
        return True
    with suppress(UnrewindableBodyError):
        rewind_body(request)
        return True
    return False
