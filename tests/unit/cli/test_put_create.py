"""``put --create``: a place that has to be made first is made only where that was asked for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from cmzon_secrets import registry
from cmzon_secrets.cli import put
from cmzon_secrets.errors import TokenNotFound
from cmzon_secrets.testing import MemoryStore


class Cloud(MemoryStore):
    """A store in which a secret has to be created before it can hold anything."""

    OPTIONS = frozenset()
    there: list[MemoryStore] = []

    @classmethod
    def from_location(cls, location):
        return cls()

    def exists(self):
        return self in self.there

    def create(self):
        self.there.append(self)


@pytest.fixture(autouse=True)
def cloud(monkeypatch):
    monkeypatch.setattr(Cloud, "there", [])
    monkeypatch.setitem(registry._PROVIDERS, "cloud", "a_cloud:Cloud")
    monkeypatch.setitem(sys.modules, "a_cloud", SimpleNamespace(Cloud=Cloud))
    monkeypatch.setenv("PASTED", "cmz_pasted")


def run(*options):
    words = ["cloud:secret", "--from-env", "PASTED", *options]
    put.command.main(words, standalone_mode=False)


def test_a_missing_secret_is_not_made_without_it():
    with pytest.raises(TokenNotFound) as caught:
        run()
    assert "put --create" in caught.value.hint
    assert Cloud.there == []


def test_a_missing_secret_is_made_with_it(capsys):
    run("--create")
    assert Cloud.there[0].get().reveal() == "cmz_pasted"
    assert capsys.readouterr().out.startswith("stored ")
