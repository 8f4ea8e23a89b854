"""Two configurations that name the same store: wasteful, told nowhere, and still harmless."""

import random

import pytest

from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer

HOUR = 3600.0


@pytest.mark.parametrize("seed", range(5))
def test_two_configurations_of_one_store_harm_neither_readers_nor_each_other(seed):
    chance = random.Random(seed)
    clock = ManualClock()
    store, issuer = MemoryStore(clock=clock), MemoryIssuer(clock=clock)
    rotators = [
        Rotator(store, issuer, RotationPolicy(name, rotate_every=days * 24 * HOUR), clock=clock)
        for name, days in (("acme", 10), ("beta", 7))
    ]
    for _ in range(400):
        chance.choice(rotators).run(force=chance.random() < 0.02)
        issuer.use(store.get())  # raises where the token is dead
        clock.advance(chance.uniform(1, 24) * HOUR)
    for rotator in rotators * 2:
        clock.advance(25 * HOUR)
        assert rotator.run().state in ("done", "waiting")
    assert issuer.live <= {token.id for token in store.versions()}
