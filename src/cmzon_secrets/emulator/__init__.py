"""A CMzon API on this machine: real HTTP, the vendor's exact answers, faults on demand.

    from cmzon_secrets.emulator import Emulator

It shares no code with client and issuers, so it can disagree with them; docs/emulator.md says what
it serves and which parts of that are assumed. Needs the extra ``emulator``.

``account`` is what the API knows, ``storage`` where that lies, ``http`` how requests are read and
refused; ``api`` has the vendor's routes, ``controls`` those of the test API, ``web`` the dashboard.
"""

from __future__ import annotations

from cmzon_secrets.errors import missing_extra

try:
    from cmzon_secrets.emulator.emulator import Emulator, ReadyLine, serve
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "h11"):
        raise
    raise missing_extra("emulator", "emulator") from error

__all__ = ["Emulator", "ReadyLine", "serve"]
