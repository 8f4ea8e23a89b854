"""``kill -9`` of real rotators at random instants: readers notice nothing, and nothing is lost.

Each backend has a few accounts at once, each with readers that send all the time, and rotators, one
or several at a time, most of which are killed in the middle of what they do. ``CMZON_KILLS=500`` asks for that
many over all backends, and Key Vault, which is slow, among them; ``CMZON_KILLS_SEED`` repeats the
choices of a run, not the instants at which its kills fall between two calls.
"""

import math
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from cmzon_secrets.sealing_keys.key_file import generate_key_file
from faults.actors import actors, api
from faults.rotation_killing import Account, Aim, Tally
from servers.aws_environment import client
from servers.openbao import unused

KILLS = int(os.environ.get("CMZON_KILLS", "0"))
SEED = os.environ.get("CMZON_KILLS_SEED") or secrets.token_hex(4)
BACKENDS = ["file", "moto", "ministack", "openbao", "openbao split", *["key vault"] * (KILLS > 0)]
ACCOUNTS = 5
EACH = math.ceil((KILLS or 50) / len(BACKENDS) / ACCOUNTS)
"""Kills of one account."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 30 * EACH)]


class Backend:
    """``uri(name)``: a new place; ``currents(uri)``: how many versions are CURRENT in it, as its server says;
    ``dated_to``: by how many seconds the server's dates are rounded down."""

    def __init__(self, uri, currents=None, dated_to=0.0):
        self.uri = uri
        self.currents = currents
        self.dated_to = dated_to


@pytest.fixture
def backend(request):
    return {
        "file": sealed_files,
        "moto": lambda r: secrets_manager(r.getfixturevalue("moto_server")),
        "ministack": lambda r: secrets_manager(None, r.getfixturevalue("ministack")),
        "openbao": vault,
        "openbao split": lambda r: vault(r, "?layout=split"),
        "key vault": key_vault,
    }[request.param](request)


def sealed_files(request):
    folder = request.getfixturevalue("tmp_path")
    generate_key_file(folder / "the.key")
    return Backend(lambda name: f"file:{folder / name}.sealed?key=keyfile:{folder / 'the.key'}")


def secrets_manager(url, ministack=None):
    sdk = ministack.admin("secretsmanager") if ministack else client("secretsmanager", url)

    def currents(uri):
        name = uri.removeprefix("awssecretsmanager://")
        versions = sdk.describe_secret(SecretId=name)["VersionIdsToStages"]
        return sum("AWSCURRENT" in labels for labels in versions.values())

    return Backend(
        lambda name: f"awssecretsmanager://kills/{name}-{secrets.token_hex(4)}",
        currents,
        dated_to=1.0 if ministack else 0.0,
    )


def vault(request, options=""):
    openbao = request.getfixturevalue("openbao")
    request.getfixturevalue("vault_environment")(openbao.environment(openbao.root_token))
    return Backend(lambda name: f"hashivault://secret/kills/{unused(name)}{options}")


def key_vault(request):
    server = request.getfixturevalue("key_vault")
    request.getfixturevalue("monkeypatch").setenv("KEY_VAULT_PORT", str(server.port))
    host = server.vault().host
    credential = "credential=managed&client_id=owner"
    return Backend(lambda name: f"azurekeyvault://{host}/secrets/{name}?{credential}")


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_rotators_killed_anywhen_lose_no_token_and_no_message(
    backend, request, monkeypatch, capsys
):
    with ExitStack() as stack:
        emulator = stack.enter_context(api())
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        processes = stack.enter_context(actors(dict(os.environ)))
        pool = stack.enter_context(ThreadPoolExecutor(ACCOUNTS))

        def account(name, **options):
            seed = f"{SEED}/{request.node.name}/{name}"
            return closing(Account(name, backend.uri(name), processes, emulator, seed, **options))

        with account("measured") as one:
            aim = Aim(2 * one.measured())

        def killed(number):
            options = {"currents": backend.currents, "aim": aim, "dated_to": backend.dated_to}
            with account(f"account{number}", **options) as one:
                return one.run(EACH)

        tally = sum(pool.map(killed, range(ACCOUNTS)), Tally())
        messages = emulator.stats()["messages"]
    with capsys.disabled():
        print(f"\n{request.node.callspec.id}, seed {SEED}: {tally}")
    assert messages == tally.sent
