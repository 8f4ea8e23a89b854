"""Everything that `cmzon-secrets init` writes, and what to type then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cmzon_secrets.config import FILE_NAME, load_config
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.provisioning.configuration import configuration
from cmzon_secrets.provisioning.places import place_files, private_folders
from cmzon_secrets.provisioning.steps import Step, steps
from cmzon_secrets.provisioning.terraform_root import terraform_files
from cmzon_secrets.provisioning.wanted import Wanted
from cmzon_secrets.typed import quoted

__all__ = ["Scaffold", "scaffold"]


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Files by their paths below the folder, those of its folders that are private, and the steps."""

    files: Mapping[str, str]
    private: tuple[str, ...]
    steps: list[Step]


def scaffold(wanted: Wanted, directory: str) -> Scaffold:
    """For a folder as it was named. Raises ConfigurationError where that cannot be: its name, or its account."""
    folder = Path(directory).absolute()
    if not str(folder).isprintable():
        raise ConfigurationError(
            "--directory — its name has a character that cannot be printed", hint="choose another"
        )
    _refuse_another_account(folder, wanted.name)
    files = {
        FILE_NAME: configuration(wanted, login=wanted.on_machine),
        **(terraform_files(wanted) if wanted.backend != "file" else {}),
        **place_files(wanted, folder),
    }
    return Scaffold(files, private_folders(wanted), steps(wanted, directory))


def _refuse_another_account(folder: Path, name: str) -> None:
    """The root of another account, written over, is a plan that deletes the secrets of that account."""
    try:
        there = load_config(folder / FILE_NAME).accounts
    except ConfigurationError:
        return  # there is none, or one that is no configuration: the files say what is in the way
    if there and name not in there:
        raise ConfigurationError(
            f"{folder} — it is the folder of {', '.join(map(quoted, there))}, not of {quoted(name)}",
            hint="choose another --directory",
        )
