"""What a whole rotation asks of each backend and of the issuer.

A rotation is the run that issues and promotes, and the run after the grace that revokes and discards.
Requests are counted on their way out of this process, to the servers of the tests; of a sealed file, the
verbs, each of which reads it and may write it under its lock. The issuer is the emulator.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backends import key_vault, moto, openbao

from cmzon_secrets import CMzonIssuer, Token
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing import MemoryStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.round_trips import Cost, Rotation, rotation

Plan = tuple[Callable[[Any], Any], Any]
"""What opens the store with a clock, and that clock where it is not one moved by hand."""
AT_MOST = {
    "sealed file": 8,
    "hashivault:": 8,
    "hashivault: layout=split": 20,
    "awssecretsmanager:": 16,
    "azurekeyvault:": 20,
}
AT_MOST_THE_ISSUER = 4 + 2
"""Issue, verify, revoke, verify; and in each run one question what is alive."""


@contextmanager
def sealed_file(folder: Path) -> Iterator[Plan]:
    from cmzon_secrets.providers.sealed_file import SealedFile
    from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file

    generate_key_file(folder / "the.key")
    key = KeyFile(folder / "the.key")
    yield lambda clock: SealedFile(folder / "a.sealed", key, clock=clock), None


@contextmanager
def vault(folder: Path, layout: str = "single") -> Iterator[Plan]:
    from cmzon_secrets.providers.vault_kv import VaultKV
    from cmzon_secrets.uri import parse

    place = parse(f"hashivault://secret/acme?layout={layout}", schemes=["hashivault"])
    with openbao(folder):
        yield lambda clock: VaultKV(place, clock=clock), None


@contextmanager
def vault_split(folder: Path) -> Iterator[Plan]:
    with vault(folder, "split") as plan:
        yield plan


@contextmanager
def aws(folder: Path) -> Iterator[Plan]:
    from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager

    with moto(folder):
        yield lambda clock: AWSSecretsManager("prod/acme", clock=clock), None


@contextmanager
def azure(folder: Path) -> Iterator[Plan]:
    from cmzon_secrets.clouds.azure import Vault
    from cmzon_secrets.clouds.azure_credentials import Login
    from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
    from servers.key_vault import SwiftClock

    class Clock(SwiftClock):
        """Moved together with the vault's own."""

        def now(self) -> datetime:
            return super().now() + timedelta(seconds=there.skew)

        def monotonic(self) -> float:
            return super().monotonic() + float(there.skew)

        def advance(self, seconds: float) -> None:
            there.skew += seconds

    speed = 100
    with key_vault(folder) as server:
        there = server.vault(speed=speed)
        place = Vault(there.host, Login(credential="managed", client_id="owner"))
        yield lambda clock: AzureKeyVault(place, "acme", clock=clock), Clock(speed)


ROWS: dict[str, Callable[[Path], Any]] = {
    "sealed file": sealed_file,
    "hashivault:": vault,
    "hashivault: layout=split": vault_split,
    "awssecretsmanager:": aws,
    "azurekeyvault:": azure,
}


def measured(plan_in: Callable[[Path], Any], emulator: Emulator) -> Rotation:
    admin, token = MemoryStore(), Token(emulator.admin_token)
    admin.stage(token)
    admin.promote(token.id, replacing=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(CMzonIssuer(admin, base_url=emulator.base_url)) as issuer,
        plan_in(Path(folder)) as (open_store, clock),
    ):
        return rotation(open_store, issuer, clock)


def asked(name: str, cost: Cost) -> int:
    return len(cost.verbs if name == "sealed file" else cost.requests)


def report(name: str, found: Rotation) -> bool:
    """Print it; whether it is within bounds."""
    total, issuer = asked(name, found.full), len(found.full.issuer)
    met = total <= AT_MOST[name] and issuer <= AT_MOST_THE_ISSUER
    idle = found.idle.verbs == found.idle_later.verbs == ["versions"]
    print(
        f"{name:25} {asked(name, found.rotating):3d} +{asked(name, found.retiring):3d}"
        f" ={total:3d}   at most {AT_MOST[name]:2d}   nothing due:{asked(name, found.idle):2d}"
        f"   {'met' if met and idle else 'MISSED'}"
    )
    if name != "sealed file":
        print(f"{'':25} {found.full.summary()}")
    print(f"{'':25} issuer: {told(found.full)}; nothing due: {told(found.idle)}")
    return met and idle


def told(cost: Cost) -> str:
    return ", ".join(f"{n} {call}" for call, n in Counter(cost.issuer).items())


def main() -> None:
    from _pytest.outcomes import Skipped

    missed = []
    print("requests of a rotation: until the promotion + after the grace")
    for name, plan_in in ROWS.items():
        try:
            with Emulator() as emulator:
                if not report(name, measured(plan_in, emulator)):
                    missed.append(name)
        except (ImportError, Skipped) as reason:
            print(f"{name:25} not run: {reason}")
    if missed:
        raise SystemExit(f"more than there may be: {', '.join(missed)}")


if __name__ == "__main__":
    main()
