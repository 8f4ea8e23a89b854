"""Snapshots: take, list, go back to and forget them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.http.answers import success
from cmzon_secrets.emulator.http.fields import refuse_unknown
from cmzon_secrets.emulator.http.guard import Control
from cmzon_secrets.emulator.http.requests import read_object

__all__ = ["SnapshotControls"]


class SnapshotControls:
    """What each control does."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def by_route(self) -> dict[str, Control]:
        """Every control by its method and path."""
        return {
            "POST /_emulator/snapshots": self._take,
            "GET /_emulator/snapshots": self._list,
            "POST /_emulator/snapshots/{name}/restore": self._restore,
            "DELETE /_emulator/snapshots/{name}": self._delete,
        }

    async def _take(self, request: Request) -> Response:
        body = await read_object(request)
        refuse_unknown(body, known=("name",))
        return success(self._account.snapshot(body.get("name", "")).entry(), status=201)

    async def _list(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        return success({"data": [found.entry() for found in self._account.snapshots.listed()]})

    async def _restore(self, request: Request) -> Response:
        self._account.restore(request.path_params["name"])
        return success(self._account.stats())

    async def _delete(self, request: Request) -> Response:
        self._account.delete_snapshot(request.path_params["name"])
        return Response(status_code=204)
