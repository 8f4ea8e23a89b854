"""``env:NAME``: who else sees it."""

from __future__ import annotations

from collections.abc import Iterator

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.providers.environment import EnvironmentVariable
from cmzon_secrets.uri import Location, shown_variable

__all__ = ["examine", "policy"]


def policy(location: Location, role: Role) -> str:
    """Raises ConfigurationError: there is nothing to grant."""
    raise ConfigurationError(
        f"env:{shown_variable(location.variable)} — a {role} of a variable needs no permission",
        hint="docs/backends/env.md",
    )


def examine(provider: EnvironmentVariable, role: Role) -> Iterator[Finding]:  # noqa: ARG001  # the same for both
    """Whom the environment tells, besides this process."""
    yield Finding(
        "permissions.visible",
        "note",
        "every program started from here inherits the token",
        "and processes of the same user read it in /proc/PID/environ",
        f"cmzon-secrets copy {provider.uri} 'file:PATH?key=KEYURI'",
    )
