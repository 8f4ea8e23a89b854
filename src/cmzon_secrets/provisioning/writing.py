"""Many files at once: all of them or none, and nothing that is there is lost.

Everything is looked at before the first write. Then the files are written to a folder beside their
places, and renamed; what goes wrong meanwhile undoes what was done.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.private_files import os_errors_as_ours

__all__ = ["write_all"]

_NAMED = 5
"""Files in the way that are named where there are many."""


def write_all(
    folder: Path, files: Mapping[str, str], *, replace: bool, private: Collection[str] = ()
) -> list[str]:
    """Have ``files`` (path below ``folder`` → text) in place; returns those that were written.

    A file of the same content is left alone. One that differs is replaced only with ``replace``.
    Folders named in ``private`` are made for their owner alone, and refused where they are there and open
    to others: what they are to hold could be read, or is theirs already. Raises ConfigurationError where
    something is in the way, else as ``os_errors_as_ours``; then nothing has changed.
    """
    with os_errors_as_ours(str(folder)):
        _refuse_what_is_open(folder, private)
        wanted = _missing(folder, files, replace=replace)
        if not wanted:
            return []
        made: list[Path] = []
        try:
            _make_folders(folder, [folder / path for path in wanted], private, made)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".cmzon-init-") as beside:
                _put_in_place(folder, wanted, Path(beside))
        except BaseException:  # Ctrl-C too
            for parent in reversed(made):
                with suppress(OSError):  # somebody else's file is in it by now
                    parent.rmdir()
            raise
        return sorted(wanted)


def _missing(folder: Path, files: Mapping[str, str], *, replace: bool) -> dict[str, bytes]:
    """What is not there as it shall be. Raises ConfigurationError for what is in the way."""
    wanted, differing = {}, []
    for path, text in files.items():
        target, data = folder / path, text.encode()
        _refuse_what_is_no_folder(folder, target.parent)
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise ConfigurationError(
                f"{target} — it is there and is not a regular file", hint="move it away"
            )
        if target.exists():
            if target.read_bytes() == data:
                continue
            differing.append(str(target))
        wanted[path] = data
    if differing and not replace:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise ConfigurationError(
            f"{', '.join(differing[:_NAMED])}{more} — there already, with other content",
            hint="choose another --directory, move it away, or give --force to replace it",
        )
    return wanted


def _refuse_what_is_no_folder(top: Path, folder: Path) -> None:
    for parent in (folder, *folder.parents):
        if (parent.is_symlink() and parent.is_relative_to(top) and parent != top) or (
            parent.exists() and not parent.is_dir()
        ):
            raise ConfigurationError(
                f"{parent} — it is there and is not a folder", hint="move it away"
            )


def _refuse_what_is_open(top: Path, private: Collection[str]) -> None:
    for name in private:
        folder = top / name
        if not folder.is_dir():
            continue
        known = folder.stat()
        if known.st_uid != os.geteuid():
            raise ConfigurationError(
                f"{folder} — it is to hold secrets, and is somebody else's", hint="move it away"
            )
        if stat.S_IMODE(known.st_mode) & 0o077:
            raise ConfigurationError(
                f"{folder} — it is to hold secrets, and others may enter it",
                hint=f"look what is in it, then: chmod 700 {shlex.quote(str(folder))}",
            )


def _make_folders(
    top: Path, targets: list[Path], private: Collection[str], made: list[Path]
) -> None:
    for target in targets:
        missing = [parent for parent in target.parents if not parent.exists()]
        for parent in reversed(missing):
            alone = parent.is_relative_to(top) and parent.relative_to(top).as_posix() in private
            parent.mkdir(0o700 if alone else 0o777)
            made.append(parent)


def _put_in_place(folder: Path, wanted: Mapping[str, bytes], beside: Path) -> None:
    """By way of ``beside``, where all that takes room is done before the first file is touched."""
    places = [
        (folder / path, beside / f"new-{number}", beside / f"old-{number}")
        for number, path in enumerate(wanted)
    ]
    for (target, new, old), data in zip(places, wanted.values(), strict=True):
        new.write_bytes(data)
        if target.exists():
            shutil.copy2(target, old)
            shutil.copymode(target, new)
    touched: list[tuple[Path, Path]] = []
    try:
        for target, new, old in places:
            touched.append((target, old))
            new.replace(target)
    except BaseException:
        for target, old in reversed(touched):
            if old.exists():
                old.replace(target)
            else:
                target.unlink(missing_ok=True)
        raise
