"""A disk that is soon full."""

import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest


@contextmanager
def small_disk(folder, size):
    """``folder`` on a disk of ``size`` bytes ("64k")."""
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if not mounted or mounted.returncode:
        pytest.skip("not run: small disk (mounting a tmpfs is not allowed here)")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path):
    """Take all the room there is."""
    with suppress(OSError), open(path, "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(512))
