"""What somebody may want of `cmzon-secrets init`: a backend, where rotation runs, and the details of both.

``DETAILS`` is the one table of them: the options of the command, its questions, and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cmzon_secrets.errors import ConfigurationError

__all__ = ["DETAILS", "EXTRAS", "PLACES", "Detail", "Wanted", "option"]

PLACES: Mapping[str, tuple[str, ...]] = {
    "aws": ("lambda", "kubernetes", "vm"),
    "azure": ("function", "kubernetes", "vm"),
    "vault": ("kubernetes", "vm", "compose"),
    "file": ("vm", "compose"),
}
"""Backend → where rotation may run; the first is the default."""

EXTRAS: Mapping[str, str] = {"aws": "[aws]", "azure": "[azure]", "vault": "[vault]", "file": ""}
"""Backend → what pip is told besides the name."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing to be known. ``suggested`` is offered on a terminal, ``assumed`` taken anywhere.

    Both may hold ``{name}``; ``variable`` is looked at first. ``backend`` and ``runs_on`` say who
    needs it; empty: everybody.
    """

    question: str
    pattern: str
    remedy: str
    suggested: str
    backend: str = ""
    runs_on: tuple[str, ...] = ()
    assumed: str | None = None
    variable: str | None = None

    def concerns(self, backend: str, runs_on: str) -> bool:
        """Whether it has a meaning there."""
        return self.backend in ("", backend) and (not self.runs_on or runs_on in self.runs_on)


_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_OF_PRIVATE_NETWORKS = r"(10|192\.168|172\.(1[6-9]|2[0-9]|3[01])|0)\."
_PATH = r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*"

DETAILS: Mapping[str, Detail] = {
    "name": Detail(
        question="Name of the account",
        pattern=r"[a-z][a-z0-9-]{0,38}[a-z0-9]",
        remedy="write 2 to 40 lower-case letters, digits and dashes, a letter first and no dash last",
        suggested="acme",
    ),
    "region": Detail(
        question="AWS region",
        pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]",
        remedy="write it as AWS does, such as eu-central-1",
        suggested="eu-central-1",
        variable="AWS_REGION",
        backend="aws",
    ),
    "cluster": Detail(
        question="Name of the EKS cluster, which has the Pod Identity agent",
        pattern=r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}",
        remedy="write its name, not its ARN",
        suggested="prod",
        backend="aws",
        runs_on=("kubernetes",),
    ),
    "vault_name": Detail(
        question="Name of the Key Vault to make; no other in the world may have it",
        pattern=r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]",
        remedy="write 3 to 24 letters, digits and single dashes, a letter first and no dash last",
        suggested="cmzon-{name}",
        backend="azure",
    ),
    "resource_group": Detail(
        question="Resource group",
        pattern=r"[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]",
        remedy="write its name: letters, digits and _ ( ) . -, no dot last",
        suggested="cmzon-{name}",
        backend="azure",
    ),
    "location": Detail(
        question="Azure region",
        pattern=r"[a-z][a-z0-9]+",
        remedy="write it as Azure does, such as westeurope",
        suggested="westeurope",
        backend="azure",
    ),
    "operator": Detail(
        question="Object id of who fills the secrets, better a group's"
        " (az ad signed-in-user show --query id)",
        pattern=_UUID,
        remedy="write it as 00000000-0000-0000-0000-000000000000",
        suggested="00000000-0000-0000-0000-000000000000",
        backend="azure",
    ),
    "oidc_issuer": Detail(
        question="OIDC issuer of the AKS cluster (az aks show --query oidcIssuerProfile.issuerUrl)",
        pattern=r"https://[A-Za-z0-9._~/-]+",
        remedy="write its address, https://…",
        suggested="https://westeurope.oic.prod-aks.azure.com/TENANT/CLUSTER/",
        backend="azure",
        runs_on=("kubernetes",),
    ),
    "principal_id": Detail(
        question="Object id of the machine's identity (az vm identity show --query principalId)",
        pattern=_UUID,
        remedy="write it as 00000000-0000-0000-0000-000000000000; a client id is another one",
        suggested="00000000-0000-0000-0000-000000000000",
        backend="azure",
        runs_on=("vm",),
    ),
    "address": Detail(
        question="Address of Vault or OpenBao",
        pattern=r"https://[A-Za-z0-9.:\[\]-]+",
        remedy="tokens are sent there: write https:// and a host, with a port where it needs one",
        suggested="https://vault.example.com:8200",
        variable="VAULT_ADDR",
        backend="vault",
    ),
    "mount": Detail(
        question="Where the KV engine shall be mounted",
        pattern=_PATH,
        remedy="write letters, digits, _ and -, with single slashes between parts and none at the ends",
        suggested="cmzon",
        assumed="cmzon",
        backend="vault",
    ),
    "image": Detail(
        question="Name of the image to build and push",
        pattern=r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}",
        remedy="write REGISTRY/NAME:TAG",
        suggested="registry.example.com/cmzon-secrets:1",
        runs_on=("kubernetes",),
    ),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backend, a place, and a value for each detail that concerns them; all of them checked.

    Raises ConfigurationError: no such backend, place, or detail there, or one is missing or no such thing.
    """

    backend: str
    runs_on: str
    details: Mapping[str, str]
    allowed: tuple[str, ...] = field(default=())
    """Azure alone: public ranges from which people fill the vault."""

    def __post_init__(self) -> None:
        _refuse_unknown("--backend", self.backend, tuple(PLACES))
        _refuse_unknown(
            "--runs-on", self.runs_on, PLACES[self.backend], f" with --backend {self.backend}"
        )
        for key, value in self.details.items():
            _check(key, value, self)
        for key, detail in DETAILS.items():
            if detail.concerns(self.backend, self.runs_on) and key not in self.details:
                raise ConfigurationError(
                    f"{option(key)} — it is missing", hint=f"give it: {detail.question}"
                )
        if self.allowed and self.backend != "azure":
            raise ConfigurationError("--allow — it has a meaning with --backend azure only")
        for cidr in self.allowed:
            _check_range(cidr)

    def __getitem__(self, key: str) -> str:
        return self.details[key]

    @property
    def name(self) -> str:
        """The account's."""
        return self.details["name"]


def option(key: str) -> str:
    """The option of a detail."""
    return f"--{key.replace('_', '-')}"


def _refuse_unknown(what: str, given: str, valid: tuple[str, ...], where: str = "") -> None:
    if given not in valid:
        raise ConfigurationError(
            f"{what} — there is no such choice{where}", hint=f"valid: {', '.join(valid)}"
        )


def _check(key: str, value: str, wanted: Wanted) -> None:
    detail = DETAILS[key]
    if not detail.concerns(wanted.backend, wanted.runs_on):
        where = f"--backend {wanted.backend} --runs-on {wanted.runs_on}"
        raise ConfigurationError(
            f"{option(key)} — it has no meaning with {where}", hint="leave it out"
        )
    if re.fullmatch(detail.pattern, value) is None:
        raise ConfigurationError(f"{option(key)} — this is none", hint=detail.remedy)


def _check_range(cidr: str) -> None:
    from ipaddress import IPv4Network

    try:
        public = re.match(_OF_PRIVATE_NETWORKS, str(IPv4Network(cidr))) is None
    except ValueError:
        public = False
    if not public:
        raise ConfigurationError(
            "--allow — this is no range of public IPv4 addresses",
            hint="write 203.0.113.7 or 203.0.113.0/24; private networks come by allowed_subnet_ids",
        )
