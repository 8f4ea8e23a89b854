"""What somebody may want of `cmzon-secrets init`: a backend, where rotation runs, and the details of both.

``DETAILS`` is the one table of them: the options of the command, its questions, and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.typed import NOT_SHOWN, quoted

__all__ = [
    "BACKENDS",
    "DETAILS",
    "Backend",
    "Detail",
    "Wanted",
    "check_choice",
    "check_detail",
    "option",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a token may be: in words, where rotation may run (the default first), what pip is told besides."""

    title: str
    places: tuple[str, ...]
    extra: str = ""


BACKENDS: Mapping[str, Backend] = {
    "aws": Backend("AWS Secrets Manager", ("lambda", "kubernetes", "vm"), "[aws]"),
    "azure": Backend("Azure Key Vault", ("function", "kubernetes", "vm"), "[azure]"),
    "vault": Backend("HashiCorp Vault or OpenBao", ("kubernetes", "vm", "compose"), "[vault]"),
    "file": Backend("a sealed file on this machine", ("vm", "compose")),
}


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing to be known. ``what`` it is stands in the message that refuses what is not.

    ``env`` is the environment variable that is taken where no option is given, and ``default`` where
    there is none either; a ``suggestion`` is offered on a terminal, and may hold ``{name}``. All
    three can be used as they are; an ``example`` is shown and cannot. ``backend`` and ``runs_on``
    say who needs the detail; empty: everybody.
    """

    question: str
    what: str
    valid: Callable[[str], bool]
    remedy: str
    default: str = ""
    env: str = ""
    suggestion: str = ""
    example: str = ""
    backend: str = ""
    runs_on: tuple[str, ...] = ()

    def concerns(self, backend: str, runs_on: str) -> bool:
        """Whether it applies there."""
        return self.backend in ("", backend) and (not self.runs_on or runs_on in self.runs_on)


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


_PRIVATE = re.compile(r"(10|192\.168|172\.(1[6-9]|2[0-9]|3[01])|0)\.")
"""As in the module, which refuses what Azure does. ``is_private`` of Python also means ranges for examples."""


def _public_ranges(value: str) -> bool:
    try:
        networks = [str(IPv4Network(cidr)) for cidr in value.split(",")]
    except ValueError:
        return value == "none"
    return not any(map(_PRIVATE.match, networks))


_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_UUID_EXAMPLE = "00000000-0000-0000-0000-000000000000"
_PATH = r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*"
_LOOPBACK = r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?"

DETAILS: Mapping[str, Detail] = {
    "name": Detail(
        question="Name of the account",
        what="a name for an account",
        valid=_like(r"(?!.*--)[a-z][a-z0-9-]{0,38}[a-z0-9]"),
        remedy="write 2 to 40 lower-case letters, digits and single dashes, a letter first and no dash last",
        suggestion="acme",
    ),
    "region": Detail(
        question="AWS region",
        what="an AWS region",
        valid=_like(r"[a-z]{2}(-[a-z]+)+-[0-9]"),
        remedy="write it as AWS does, such as eu-central-1",
        example="eu-central-1",
        env="AWS_REGION",
        backend="aws",
    ),
    "cluster": Detail(
        question="Name of the EKS cluster, which has the Pod Identity agent",
        what="the name of an EKS cluster",
        valid=_like(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"),
        remedy="write its name, not its ARN",
        example="prod",
        backend="aws",
        runs_on=("kubernetes",),
    ),
    "vault_name": Detail(
        question="Name of the Key Vault to make; no other in the world may have it",
        what="a name for a Key Vault",
        valid=_like(r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]"),
        remedy="write 3 to 24 letters, digits and single dashes, a letter first and no dash last",
        suggestion="cmzon-{name}",
        backend="azure",
    ),
    "resource_group": Detail(
        question="Resource group",
        what="the name of a resource group",
        valid=_like(r"[A-Za-z0-9_()-]([A-Za-z0-9_().-]{0,88}[A-Za-z0-9_()-])?"),
        remedy="write its name: letters, digits and _ ( ) . -, no dot first or last",
        suggestion="cmzon-{name}",
        backend="azure",
    ),
    "location": Detail(
        question="Azure region",
        what="an Azure region",
        valid=_like(r"[a-z][a-z0-9]+"),
        remedy="write it as Azure does, such as westeurope",
        example="westeurope",
        backend="azure",
    ),
    "operator": Detail(
        question="Object id of who fills the secrets, better a group's"
        " (az ad signed-in-user show --query id)",
        what="an object id",
        valid=_like(_UUID),
        remedy=f"write it as {_UUID_EXAMPLE}",
        example=_UUID_EXAMPLE,
        backend="azure",
    ),
    "allow": Detail(
        question="Public addresses that the vault lets in, with commas: yours, and those of machines and"
        " clusters; none: all come by private networks",
        what="a list of public IPv4 addresses and ranges",
        valid=_public_ranges,
        remedy="write 203.0.113.7 or 203.0.113.7,198.51.100.0/24; or none, and give Terraform"
        " allowed_subnet_ids",
        example="203.0.113.7,198.51.100.0/24",
        backend="azure",
    ),
    "oidc_issuer": Detail(
        question="OIDC issuer of the AKS cluster (az aks show --query oidcIssuerProfile.issuerUrl)",
        what="the address of an issuer",
        valid=_like(r"https://[A-Za-z0-9._~/-]+"),
        remedy="write its address, https://…",
        example="https://westeurope.oic.prod-aks.azure.com/TENANT/CLUSTER/",
        backend="azure",
        runs_on=("kubernetes",),
    ),
    "principal_id": Detail(
        question="Object id of the machine's identity (az vm identity show --query principalId)",
        what="an object id",
        valid=_like(_UUID),
        remedy=f"write it as {_UUID_EXAMPLE}; a client id is another one",
        example=_UUID_EXAMPLE,
        backend="azure",
        runs_on=("vm",),
    ),
    "address": Detail(
        question="Address of Vault or OpenBao",
        what="an address of Vault",
        valid=_like(rf"https://[A-Za-z0-9.:\[\]-]+|http://{_LOOPBACK}"),
        remedy="tokens are sent there: write https:// and a host, with a port where it needs one, and"
        " nothing behind; http:// is for this machine itself",
        example="https://vault.example.com:8200",
        env="VAULT_ADDR",
        backend="vault",
    ),
    "mount": Detail(
        question="Where the KV engine shall be mounted",
        what="a path to mount at",
        valid=_like(_PATH),
        remedy="write letters, digits, _ and -, with single slashes between parts and none at the ends",
        default="cmzon",
        backend="vault",
    ),
    "image": Detail(
        question="Name of the image to build and push",
        what="the name of an image",
        valid=_like(
            r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
        ),
        remedy="write REGISTRY/NAME:TAG",
        example="registry.example.com/cmzon-secrets:1",
        runs_on=("kubernetes",),
    ),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backend, a place, and a value for each detail that concerns them; all of them checked.

    Raises ConfigurationError as the two checks do, and where a detail is missing.
    """

    backend: str
    runs_on: str
    details: Mapping[str, str]

    def __post_init__(self) -> None:
        check_choice(self.backend, self.runs_on)
        for key, value in self.details.items():
            check_detail(key, value, self.backend, self.runs_on)
        for key, detail in DETAILS.items():
            if detail.concerns(self.backend, self.runs_on) and key not in self.details:
                raise ConfigurationError(
                    f"{option(key)} — it is missing", hint=f"give it: {detail.question}"
                )

    def __getitem__(self, key: str) -> str:
        return self.details[key]

    @property
    def name(self) -> str:
        """The account's."""
        return self.details["name"]

    @property
    def on_machine(self) -> bool:
        """Whether rotation runs on the machine that the files are written on."""
        return self.runs_on in ("vm", "compose")

    @property
    def prefix(self) -> str:
        """What the names of all that the module makes begin with. In Vault they are the server's, not the mount's."""
        first = self["mount"].lower().replace("/", "-") if self.backend == "vault" else "cmzon"
        return f"{first}-{self.name}"

    @property
    def rotator(self) -> str:
        """Name of the role, identity or profile of whoever rotates."""
        return f"{self.prefix}-rotator"


def option(key: str) -> str:
    """The option of a detail."""
    return f"--{key.replace('_', '-')}"


def check_choice(backend: str, runs_on: str) -> None:
    """Raises ConfigurationError where there is no such backend, or no such place with it."""
    _refuse_unknown("--backend", backend, tuple(BACKENDS))
    _refuse_unknown("--runs-on", runs_on, BACKENDS[backend].places, f" with --backend {backend}")


def _refuse_unknown(what: str, given: str, valid: tuple[str, ...], where: str = "") -> None:
    if given not in valid:
        raise ConfigurationError(
            f"{what} — there is no such choice{where}", hint=f"valid: {', '.join(valid)}"
        )


_TOKEN = re.compile(r"(cmz_|hv[sbr]\.|[sbr]\.[A-Za-z0-9]{24})", re.IGNORECASE)
"""How tokens of CMzon and of Vault begin."""

_RESERVED = re.compile(r"-(admin|pending|transit|reader|rotator|seeder)$")


def check_detail(key: str, value: str, backend: str, runs_on: str) -> None:
    """Raises ConfigurationError for a detail that does not apply there, or a value that cannot be meant."""
    detail = DETAILS[key]
    if not detail.concerns(backend, runs_on):
        where = f"--backend {backend} --runs-on {runs_on}"
        raise ConfigurationError(
            f"{option(key)} — it does not apply to {where}", hint="leave it out"
        )
    if _TOKEN.match(value):
        raise ConfigurationError(
            f"{option(key)} — this looks like a token",
            hint="what is given here is written to files; a token is typed at the prompt of put",
        )
    if not detail.valid(value):
        # Before an @ stands a user, and his password.
        shown = NOT_SHOWN if "@" in value else quoted(value)
        raise ConfigurationError(
            f"{option(key)} — {shown} is not {detail.what}", hint=detail.remedy
        )
    taken = _RESERVED.search(value) if key == "name" else None
    if taken:
        raise ConfigurationError(
            f"{option(key)} — {quoted(value)} would be the name of something that belongs to the account"
            f" {quoted(value[: taken.start()])}",
            hint="choose another end than -admin, -pending, -transit, -reader, -rotator and -seeder",
        )
