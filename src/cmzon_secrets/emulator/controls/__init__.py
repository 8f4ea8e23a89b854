"""``/_emulator/*``: for who rehearses and tests, on this machine, without a token."""

from __future__ import annotations

from collections.abc import Sequence

from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.controls.rehearsing import Rehearsing
from cmzon_secrets.emulator.guard import Control, local

__all__ = ["controls_of"]


def controls_of(account: Account, routes: Sequence[str]) -> dict[str, Control]:
    """Every control by its method and path. ``routes`` are the API's, which faults may name."""
    controls = Rehearsing(account, routes).by_route()
    return {route: local(control) for route, control in controls.items()}
