"""The columns of docs/faults.md that need no server."""

import sys

import pytest

from cmzon_secrets import Token, open_provider, open_store
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from faults.backend_faults import BackendFaults


class TestSealedFile(BackendFaults):
    scheme = "file"

    @pytest.fixture
    def store(self, tmp_path):
        generate_key_file(tmp_path / "the.key")
        store = open_store(f"file:{tmp_path / 'a.sealed'}?key=keyfile:{tmp_path / 'the.key'}")
        store.stage(Token("a-token", id="tok_1"))
        store.promote("tok_1", replacing=None)
        return store

    @pytest.fixture
    def not_found(self, store, tmp_path):
        (tmp_path / "a.sealed").unlink()
        return store, "put"

    @pytest.fixture
    def denied(self, store, tmp_path):
        (tmp_path / "a.sealed").chmod(0o644)
        return store, "chmod"

    @pytest.fixture
    def malformed_value(self, store, tmp_path):
        with (tmp_path / "a.sealed").open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
        return store, "altered"

    @pytest.fixture
    def foreign_value(self, store, tmp_path):
        (tmp_path / "a.sealed").write_bytes(b"-----BEGIN PGP MESSAGE-----\n")
        return store, "does not begin like a sealed file"

    @pytest.fixture
    def sdk_missing(self, store, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "keyring", None)
        uri = f"file:{tmp_path / 'a.sealed'}?key=keyring:cmzon"
        return lambda: open_provider(uri), "[keyring]"
