"""Everything an account holds, kept under a name to go back to: one SQLite file for each.

They survive a restart with the state folder they lie in; without one they end with the emulator.
"""

from __future__ import annotations

import re
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.http.answers import Refusal, invalid_request
from cmzon_secrets.emulator.storage.home import HALF_TAKEN
from cmzon_secrets.emulator.storage.journal import Journal, Write

__all__ = ["MOST", "Snapshot", "Snapshots", "unusable"]

MOST = 100
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}"
_ENDING = ".db"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One of them. ``at``: when it was taken, in Unix seconds by the machine's clock; ``size``: bytes."""

    name: str
    at: float
    size: int

    def entry(self) -> dict[str, Any]:
        """The snapshot as listings show it."""
        return {"name": self.name, "at": format_time(self.at), "size": self.size}


class Snapshots:
    """The snapshots in a folder, which is made when it is needed; of what lies there, files alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def take(self, name: str, journal: Journal, *writes: Write) -> Snapshot:
        """Keep what ``journal`` holds, and ``writes``; one of the same name is replaced.

        Raises Refusal: 400 naming the field where the name is none or there are too many, 500 where
        it cannot be written. Nothing has changed then.
        """
        path = self._path(name)
        known = self.listed()
        if len(known) >= MOST and name not in {snapshot.name for snapshot in known}:
            full = f"name — there are {MOST} snapshots already; delete one first"
            raise invalid_request(full, field="name")
        try:
            self._write(path, journal, writes)
            return _described(path)
        except (OSError, sqlite3.Error) as error:
            raise _failed("Snapshot not taken", name, error) from error

    def read(self, name: str) -> Journal:
        """What a snapshot holds, in memory. Raises Refusal: 404 unknown, 409 not to be used."""
        known = sorted(snapshot.name for snapshot in self.listed())
        if name not in known:
            details = f"name — unknown; known: {', '.join(known) or 'none'}"
            raise Refusal(404, "Unknown snapshot", details)
        try:
            return Journal.read(self._path(name))
        except sqlite3.Error as error:
            raise unusable(name, error) from error

    def listed(self) -> list[Snapshot]:
        """Every snapshot, the newest first."""
        found = []
        for path in self._folder.glob(f"*{_ENDING}"):
            with suppress(OSError):  # removed meanwhile, or not to be read
                if re.fullmatch(NAME, path.stem) and stat.S_ISREG(path.lstat().st_mode):
                    found.append(_described(path))
        return sorted(found, key=lambda snapshot: (-snapshot.at, snapshot.name))

    def delete(self, name: str) -> None:
        """Forget one; a name that is not there is no error. Raises Refusal (500) where it stays."""
        if re.fullmatch(NAME, name):
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError as error:
                raise _failed("Snapshot not deleted", name, error) from error

    def _path(self, name: object) -> Path:
        if not isinstance(name, str) or re.fullmatch(NAME, name) is None:
            raise invalid_request(
                "name — 1 to 60 letters, digits, dots, dashes and underscores are needed;"
                " the first is a letter or a digit",
                field="name",
            )
        return self._folder / f"{name}{_ENDING}"

    def _write(self, path: Path, journal: Journal, writes: tuple[Write, ...]) -> None:
        """In a folder of its own, then renamed: it is there whole or not at all."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with TemporaryDirectory(dir=self._folder, prefix=HALF_TAKEN) as beside:
            new = Path(beside) / path.name
            journal.copy_to(new, *writes)
            new.chmod(0o600)
            new.replace(path)


def unusable(name: str, why: object) -> Refusal:
    """The refusal of a snapshot that cannot be gone back to."""
    why = getattr(why, "details", None) or why
    return Refusal(409, "Snapshot not restored", f"snapshot {name} — {why}; nothing has changed")


def _failed(message: str, name: str, error: OSError | sqlite3.Error) -> Refusal:
    return Refusal(500, message, f"snapshot {name} — {getattr(error, 'strerror', None) or error}")


def _described(path: Path) -> Snapshot:
    found = path.lstat()
    return Snapshot(path.stem, found.st_mtime, found.st_size)
