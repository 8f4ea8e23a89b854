"""What a read through a provider costs, against the bare SDK call on the same server.

Both are called in turn, a few calls each; what counts is the best turn of each, for other work on the
machine makes a turn slower, never faster. The servers are those of the tests: moto, OpenBao, and our double of
Key Vault. They answer faster than any cloud does, so our share is the largest it can be.
A server that cannot be had here is said to be not run.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmzon_secrets import open_provider

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CALLS, TURNS = 5, 120
TARGET = 0.9
"""Times as many reads a second as the SDK alone."""

Call = Callable[[], object]
Rivals = tuple[Call, Call]
"""A read through the provider, and the SDK's call for the same secret."""


@contextmanager
def aws_secrets_manager(folder: Path) -> Iterator[Rivals]:
    """On moto's server."""
    from servers.aws_environment import client

    with moto(folder) as url:
        sdk = client("secretsmanager", url)
        sdk.create_secret(Name="prod/acme", SecretString='{"token": "cmz_benchmark"}')
        provider = open_provider("awssecretsmanager://prod/acme")
        yield provider.get, lambda: sdk.get_secret_value(SecretId="prod/acme")


@contextmanager
def aws_kms(folder: Path) -> Iterator[Rivals]:
    """On moto's server."""
    from servers.aws_environment import client

    with moto(folder) as url:
        sdk = client("kms", url)
        key = sdk.create_key()["KeyMetadata"]["Arn"]
        blob = sdk.encrypt(KeyId=key, Plaintext=b"cmz_benchmark")["CiphertextBlob"]
        path = folder / "token.kms"
        path.write_bytes(blob)
        provider = open_provider(f"awskms://{key}?ciphertext=file:{path}")
        yield provider.get, lambda: sdk.decrypt(KeyId=key, CiphertextBlob=blob)


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Its URL, where the SDK finds it, too."""
    from servers.aws_environment import ACCESS_KEY, REGION, SECRET_KEY
    from servers.child_process import free_port, running, script

    port = free_port()
    command = [script("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port=port, folder=folder, healthy="/moto-api/") as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        os.environ["AWS_REGION"] = REGION
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = (
            ACCESS_KEY,
            SECRET_KEY,
        )
        yield url


@contextmanager
def vault(folder: Path) -> Iterator[Rivals]:
    """On OpenBao, over TLS."""
    import hvac

    with openbao(folder) as server:
        server.admin("POST", "secret/data/acme", {"data": {"token": "cmz_benchmark"}})
        sdk = hvac.Client(server.address, token=server.root_token, verify=server.ca)
        provider = open_provider("hashivault://secret/acme")
        read = sdk.secrets.kv.v2.read_secret_version
        yield provider.get, lambda: read("acme", raise_on_deleted_version=True)


@contextmanager
def openbao(folder: Path) -> Iterator[Any]:
    """The server, where the SDK finds it."""
    from servers.openbao import OpenBao

    server = OpenBao(folder)
    server.start()
    try:
        server.initialise()
        server.mount_all()
        os.environ.update(server.environment(server.root_token))
        yield server
    finally:
        server.stop(kill=True)


@contextmanager
def azure(folder: Path) -> Iterator[Rivals]:
    """On our double of Key Vault, in this process, over TLS."""
    from azure.identity import ManagedIdentityCredential
    from azure.keyvault.secrets import SecretClient

    with key_vault(folder) as server:
        host = server.vault().host
        sdk = SecretClient(f"https://{host}", ManagedIdentityCredential(client_id="owner"))
        sdk.set_secret("acme", "cmz_benchmark")
        provider = open_provider(
            f"azurekeyvault://{host}/secrets/acme?credential=managed&client_id=owner"
        )
        yield provider.get, lambda: sdk.get_secret("acme")


@contextmanager
def key_vault(folder: Path) -> Iterator[Any]:
    """The double, where the SDK finds it."""
    from servers.key_vault import KeyVault, redirected

    server = KeyVault(folder)
    os.environ.update(server.environment)
    with redirected(server.port):
        yield server
    server.close()


ROWS: dict[str, Callable[[Path], Any]] = {
    "awssecretsmanager:": aws_secrets_manager,
    "awskms:": aws_kms,
    "hashivault:": vault,
    "azurekeyvault:": azure,
}
"""To measure another backend, add the two calls that are to be compared."""


def best(rivals: Rivals) -> list[float]:
    """Seconds of one call of each, in its best turn."""
    turns = [[seconds(call) for call in rivals] for _ in range(TURNS + 1)]
    return [min(column) for column in zip(*turns[1:], strict=True)]  # the first opens connections


def seconds(call: Call) -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begun) / CALLS


def row(name: str, rivals_in: Callable[[Path], Any]) -> str:
    with tempfile.TemporaryDirectory() as folder, rivals_in(Path(folder)) as rivals:
        ours, bare = best(rivals)
    ratio = bare / ours
    verdict = "met" if ratio >= TARGET else "MISSED"
    return f"{name:20} {1 / ours:7.0f} reads/s   SDK alone {1 / bare:7.0f}   {ratio:5.2f} times   {verdict}"


def main() -> None:
    from _pytest.outcomes import Skipped

    for name, rivals_in in ROWS.items():
        try:
            print(row(name, rivals_in))
        except (ImportError, Skipped) as reason:
            print(f"{name:20} not run: {reason}")
    print(f"target: {TARGET} times the SDK alone")


if __name__ == "__main__":
    main()
