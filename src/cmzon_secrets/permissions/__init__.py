"""The least permissions of each backend, one file for each role: what `doctor` prints, tests enforce
and Terraform applies.

A file is named ``SCHEME.ROLE.SUFFIX``. Its placeholders are written ``${name}``, which Python's
``string.Template`` and Terraform's ``templatefile`` read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template

from cmzon_secrets.errors import ConfigurationError

__all__ = ["policy"]


def policy(scheme: str, role: str, names: Mapping[str, str]) -> str:
    """The policy of a role, for the place that ``names`` fill in.

    Raises ConfigurationError where a backend has none, or ``names`` lacks one that it needs.
    """
    found = [f for f in files(__name__).iterdir() if f.name.startswith(f"{scheme}.{role}.")]
    if not found:
        raise ConfigurationError(f"{scheme}: — there is no policy to print for a {role}")
    try:
        return Template(found[0].read_text(encoding="utf-8")).substitute(names)
    except KeyError as error:
        raise ConfigurationError(f"{scheme}: — the policy needs {error.args[0]}") from None
