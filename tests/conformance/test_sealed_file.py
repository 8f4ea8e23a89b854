"""``file:`` passes what every store must pass."""

import os
import secrets
from functools import partial

import pytest

from cmzon_secrets import open_store
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.testing import StoreSuite, interposed


class TestSealedFile(StoreSuite):
    cannot = {
        "paste": "what nobody sealed is SealBroken",
        "unreachable": "a file always answers",
    }

    @pytest.fixture
    def new_place(self, tmp_path):
        generate_key_file(tmp_path / "the.key")
        return lambda: tmp_path / f"{secrets.token_hex(4)}.sealed"

    def open(self, place, clock):
        return SealedFile(place, KeyFile(place.with_name("the.key")), clock=clock)

    def opener(self, place):
        return partial(open_store, f"file:{place}?key=keyfile:{place.with_name('the.key')}")

    def aliases(self, place):
        link = place.with_name("a link")
        link.symlink_to(place)
        uri = self.opener(place)
        return [
            uri(),
            SealedFile(link, KeyFile(place.with_name("the.key"))),
            SealedFile(os.path.relpath(place), KeyFile(place.with_name("the.key"))),
        ]

    def steps(self, place, step):
        calls = (
            "open",
            "read",
            "write",
            "fchmod",
            "fsync",
            "replace",
            "listdir",
            "unlink",
            "close",
        )
        return interposed(step, os, *calls)

    def denied(self, place):
        place.chmod(0o644)
        return SealedFile(place, KeyFile(place.with_name("the.key")))

    def mend(self, place):
        place.chmod(0o600)
