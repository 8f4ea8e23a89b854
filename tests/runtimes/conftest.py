"""What the runtimes are configured by: the environment, here each test's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cmzon_secrets.runtimes import warm
from cmzon_secrets.sealing_keys.key_file import generate_key_file


@pytest.fixture
def configure(monkeypatch):
    """Sets the variables given, and no other ``CMZON_*``."""

    def set_only(**variables: str) -> None:
        for name in [name for name in os.environ if name.startswith("CMZON_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    set_only()
    yield set_only
    if (kept := warm._WARM.newest) is not None:
        kept.issuers.close()
    warm._WARM.newest = None


class Shop:
    """One machine that uses the emulator: its variables, and places for tokens."""

    def __init__(self, emulator, folder: Path, configure) -> None:
        self.emulator = emulator
        self.folder = folder
        self._configure = configure
        generate_key_file(folder / "shop.key")

    @property
    def access(self) -> dict[str, str]:
        return {
            "CMZON_BASE_URL": self.emulator.base_url,
            "CMZON_ADMIN_URI": "env:CMZON_TEST_ADMIN",
            "CMZON_TEST_ADMIN": self.emulator.admin_token,
        }

    def place(self, name: str) -> str:
        return f"file:{self.folder / name}?key=keyfile:{self.folder / 'shop.key'}"

    def one(self, **variables: str) -> None:
        """One account, by the environment."""
        self._configure(**self.access, CMZON_TOKEN_URI=self.place("one.sealed"), **variables)

    def many(self, *names: str, text: str = "") -> None:
        """Accounts of these names, by a file."""
        lines = [f'[accounts.{name}]\ntoken = "{self.place(name)}"\n' for name in names]
        file = self.folder / "cmzon-secrets.toml"
        file.write_text("\n".join([*lines, text]))
        self._configure(**self.access, CMZON_SECRETS_CONFIG=str(file))

    def held(self, name: str = "one.sealed"):
        from cmzon_secrets import open_store

        with open_store(self.place(name)) as store:
            return store.versions()

    @property
    def live(self) -> int:
        """Tokens that the API accepts, but for the admin's."""
        return self.emulator.stats()["tokens"]["live"] - 1


@pytest.fixture
def shop(cmzon_emulator, tmp_path, configure):
    return Shop(cmzon_emulator, tmp_path, configure)


@pytest.fixture
def lines(capsys):
    """The lines of JSON logged since the last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
