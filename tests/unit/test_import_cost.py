"""``import cmzon_secrets`` costs about as much as ``import dataclasses``, and no name needs an SDK."""

import json
import subprocess
import sys

import pytest

import cmzon_secrets

MAY_BE_LOADED = {"cmzon_secrets", "__future__"}
"""Beyond dataclasses and datetime."""

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "cmzon_secrets"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
"""No package but Python's own and ours can be imported: a machine without any extra, or base
dependency."""


def in_a_fresh_python(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def loaded_by(statement: str) -> set[str]:
    script = f"""
import sys, dataclasses, datetime
before = set(sys.modules)
{statement}
loaded = sorted(set(sys.modules) - before)
import json
print(json.dumps(loaded))
"""
    return set(json.loads(in_a_fresh_python(script)))


def test_the_package_loads_next_to_nothing():
    assert loaded_by("import cmzon_secrets") <= MAY_BE_LOADED


def test_the_words_load_nothing_of_others():
    loaded = loaded_by("from cmzon_secrets import Token, TokenStore, Versions")
    packages = {name.split(".")[0] for name in loaded}
    assert packages - sys.stdlib_module_names == {"cmzon_secrets"}
    assert not packages & {"asyncio", "http", "ssl", "socket", "urllib", "email", "logging"}


@pytest.mark.parametrize("name", cmzon_secrets.__all__)
def test_each_name_can_be_imported_without_any_other_package(name):
    in_a_fresh_python(f"{BLOCKER}\nfrom cmzon_secrets import {name}")


@pytest.mark.parametrize("name", cmzon_secrets.__all__)
def test_no_name_loads_an_sdk(name):
    loaded = {module.split(".")[0] for module in loaded_by(f"from cmzon_secrets import {name}")}
    assert loaded - sys.stdlib_module_names == {"cmzon_secrets"}


def test_what_needs_no_package_works_without_any():
    assert in_a_fresh_python(
        f"""{BLOCKER}
import os
from cmzon_secrets import Token, TokenCache, open_provider
os.environ["THE_TOKEN"] = "cmz_value"
with TokenCache(open_provider("env:THE_TOKEN")) as cache:
    print(cache.get() == Token("cmz_value"))
"""
    ).split() == ["True"]
