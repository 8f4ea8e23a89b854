"""The sealing keys of this machine pass what every key must pass.

``keyring:`` has its own file: it needs a real keyring to be started.
"""

import itertools

import pytest

from cmzon_secrets.sealing_keys.environment import EnvironmentKey
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.sealing_keys.passphrase import CHEAPEST, VARIABLE, PassphraseKey
from cmzon_secrets.testing import KeySuite

NO_SERVICE = {"unreachable": "this machine always answers"}


class TestKeyFile(KeySuite):
    cannot = NO_SERVICE

    @pytest.fixture
    def new_place(self, tmp_path):
        numbers = itertools.count()

        def new():
            path = tmp_path / f"{next(numbers)}.key"
            generate_key_file(path)
            return path

        return new

    def open(self, place):
        return KeyFile(place)

    def secrets_of(self, place):
        return [place.read_text().strip()]

    def denied(self, place):
        place.chmod(0o644)
        return KeyFile(place)


class TestEnvironmentKey(KeySuite):
    cannot = {**NO_SERVICE, "denied": "a variable refuses nobody"}

    @pytest.fixture
    def new_place(self, tmp_path, monkeypatch):
        numbers = itertools.count()

        def new():
            name = f"CMZON_TEST_KEY_{next(numbers)}"
            generate_key_file(tmp_path / name)
            monkeypatch.setenv(name, (tmp_path / name).read_text())
            return name

        self.folder = tmp_path
        return new

    def open(self, place):
        return EnvironmentKey(place)

    def secrets_of(self, place):
        return [(self.folder / place).read_text().strip()]


class TestPassphraseKey(KeySuite):
    cannot = {**NO_SERVICE, "denied": "a passphrase refuses nobody"}

    @pytest.fixture
    def new_place(self, monkeypatch):
        numbers = itertools.count()
        self.setenv = monkeypatch.setenv
        return lambda: f"correct horse battery staple {next(numbers)}"

    def open(self, place):
        self.setenv(VARIABLE, place)
        return PassphraseKey(profile=CHEAPEST)

    def secrets_of(self, place):
        return [place]
