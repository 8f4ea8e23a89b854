"""Where the Terraform modules and the examples are that `cmzon-secrets init` copies.

In a checkout they stand at its top, as people read them; a wheel has them in the folder ``shipped``.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from cmzon_secrets.errors import ConfigurationError

__all__ = ["shipped_file", "shipped_module"]

_HERE = Path(__file__).resolve().parent
_MODULE_SUFFIXES = (".tf", ".json", ".hcl", ".md")
_NOT_COPIED = ("examples", "tests")
"""Folders of a module that show and prove it, and that it works without."""
_VALUES = (".tfvars.json", ".auto.tfvars.json")
"""How files end that hold somebody's values and are never the module's."""
_LINK_WITHIN = re.compile(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)")
"""A link of a page to a file that is not copied along with it."""


def shipped_file(path: str) -> str:
    """The text of a file of the project, such as ``examples/systemd/cmzon-secrets.timer``."""
    return (_root() / path).read_text(encoding="utf-8")


def shipped_module(name: str) -> dict[str, str]:
    """The files of a Terraform module, by their paths within it; without what it works without.

    Its page keeps the words of links that would lead nowhere in the copy.
    """
    folder = _root() / "terraform" / "modules" / name
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        below.as_posix(): _for_a_copy(path)
        for below, path in files.items()
        if path.is_file()
        and below.suffix in _MODULE_SUFFIXES
        and not below.name.endswith(_VALUES)
        and not any(part in _NOT_COPIED or part.startswith(".") for part in below.parts)
    }


def _for_a_copy(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return _LINK_WITHIN.sub(r"\1", text) if path.suffix == ".md" else text


@cache
def _root() -> Path:
    for folder in (_HERE / "shipped", _HERE.parents[2]):
        if (folder / "terraform" / "modules").is_dir():
            return folder
    raise ConfigurationError(
        "cmzon-secrets — this installation lacks the Terraform modules and examples",
        hint="install it anew with pip, which brings them",
    )
