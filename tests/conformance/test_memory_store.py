"""MemoryStore keeps the contract it helps others to test."""

from collections.abc import Callable

import pytest

from cmzon_secrets.testing import MemoryStore, StoreSuite, interposed


class TestMemoryStore(StoreSuite):
    cannot = {
        "opener": "the memory of one process is nobody else's",
        "denied": "a variable refuses nobody",
        "unreachable": "a variable always answers",
    }
    model_examples = 100

    @pytest.fixture
    def new_place(self) -> Callable[[], MemoryStore]:
        return MemoryStore

    def open(self, place, clock):
        return place.reopen(clock=clock)

    def aliases(self, place):
        return [place, place.reopen()]

    def paste(self, place, text):
        place.paste(text)

    def steps(self, place, step):
        return interposed(step, place._memory, "load", "save")
