"""A fleet on this machine, and the program where examples look for it."""

import os
from pathlib import Path

import pytest

from cmzon_secrets.sealing_keys.key_file import generate_key_file
from servers.programs import programs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def examples():
    return ROOT / "examples"


@pytest.fixture
def fleet(tmp_path, cmzon_emulator):
    """The environment in which two accounts in sealed files can be rotated."""
    generate_key_file(tmp_path / "the.key")
    accounts = [f'[accounts.{name}]\ntoken = "file:{name}.sealed"\n' for name in ("acme", "globex")]
    head = f'base_url = "{cmzon_emulator.base_url}"\nadmin = "env:ADMIN"\n'
    (tmp_path / "cmzon-secrets.toml").write_text(head + "".join(accounts))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CMZON_")}
    return {
        **ours,
        "ADMIN": cmzon_emulator.admin_token,
        "CMZON_SECRETS_CONFIG": str(tmp_path / "cmzon-secrets.toml"),
        "CMZON_SECRETS_KEY": f"keyfile:{tmp_path / 'the.key'}",
        "PYTHONPATH": str(ROOT / "src"),
    }


@pytest.fixture
def program(tmp_path):
    """The path of ``cmzon-secrets``, as it is where the package is installed."""
    return programs(tmp_path / "bin") / "cmzon-secrets"
