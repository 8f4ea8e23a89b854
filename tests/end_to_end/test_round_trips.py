"""What a whole rotation asks of each backend and of the issuer, held to a figure.

A rotation is the run that issues and promotes, and the run after the grace that revokes and
discards. ``benchmarks/round_trips.py`` prints the same. Key Vault's figure is held in
``tests/unit/providers/test_azure_round_trips.py``.
"""

import secrets
from collections import Counter
from contextlib import closing

import pytest

from cmzon_secrets import CMzonIssuer, Token
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.testing import MemoryStore
from cmzon_secrets.uri import parse
from servers.openbao import unused
from servers.round_trips import rotation

VERBS = ["versions", "stage", "versions", "promote", "versions", "versions", "discard", "versions"]


@pytest.fixture
def rotated(cmzon_emulator):
    """A function: what opens a store → the cost of its rotation, by the emulator's tokens."""
    admin, token = MemoryStore(), Token(cmzon_emulator.admin_token)
    admin.stage(token)
    admin.promote(token.id, replacing=None)
    with closing(CMzonIssuer(admin, base_url=cmzon_emulator.base_url)) as issuer:
        yield lambda open_store: rotation(open_store, issuer)


@pytest.fixture
def on_file(rotated, tmp_path):
    generate_key_file(tmp_path / "the.key")
    key = KeyFile(tmp_path / "the.key")
    return rotated(lambda clock: SealedFile(tmp_path / "a.sealed", key, clock=clock))


def test_a_sealed_file_is_asked_for_eight_verbs(on_file):
    assert on_file.full.verbs == VERBS


def test_the_issuer_is_asked_four_times_and_once_a_run_what_is_alive(on_file):
    """By its list, or where that was just had by trying CURRENT."""
    asked = Counter(on_file.full.issuer)
    assert asked["issue"] == asked["revoke"] == 1
    assert asked["list"] <= 2
    assert asked.total() == 4 + 2
    assert asked["verify"] == 2 + (2 - asked["list"])


def test_a_run_with_nothing_due_looks_once_and_lists_no_more_often_than_needed(on_file):
    assert on_file.idle.verbs == on_file.idle_later.verbs == ["versions"]
    assert on_file.idle.issuer == ["verify"]
    assert on_file.idle_later.issuer == ["list"]


@pytest.mark.parametrize(("layout", "requests", "idle"), [("single", 8, 1), ("split", 20, 3)])
def test_a_rotation_on_vault(layout, requests, idle, rotated, openbao, vault_environment):
    vault_environment(openbao.environment(openbao.root_token))
    uri = f"hashivault://secret/{unused('trips')}?layout={layout}"
    place = parse(uri, schemes=["hashivault"])
    cost = rotated(lambda clock: VaultKV(place, clock=clock))
    assert len(cost.full.requests) == requests, cost.full.requests
    assert len(cost.idle.requests) == idle
    assert cost.full.verbs == VERBS


def test_a_rotation_on_aws_secrets_manager_is_sixteen_requests(rotated, strict_aws):
    name = f"trips/{secrets.token_hex(6)}"
    cost = rotated(lambda clock: AWSSecretsManager(name, clock=clock))
    asked = Counter(cost.full.requests)
    assert asked == {
        "DescribeSecret": 7,
        "GetSecretValue": 3,
        "UpdateSecretVersionStage": 4,
        "PutSecretValue": 1,
        "TagResource": 1,
    }
    assert asked.total() == 16
    assert cost.idle.requests == ["DescribeSecret", "GetSecretValue"]
    assert cost.full.verbs == VERBS
    assert cost.full.requests == strict_aws.calls[-len(cost.full.requests) - 4 : -4]
