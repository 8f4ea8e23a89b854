"""The architecture, as a table that the code is held against.

A *unit* is a module at the top of the package or a folder. ``ARROWS`` says which other units it may
import, at any depth of its functions; inside its own folder a unit is free. Reading from top to
bottom, arrows point upwards only.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cmzon_secrets import TokenIssuer, TokenProvider
from cmzon_secrets.sealing import SealingKey

PROMISES = (TokenProvider, SealingKey, TokenIssuer)
PACKAGE = "cmzon_secrets"
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / PACKAGE
CONFORMANCE = ROOT / "tests" / "conformance"

WORDS = "errors clock durations tokens records uri events"
CONTRACTS = "provider issuer sealing stages answers http"
LOGIC = "cache client rotation chain"
ADAPTERS = "providers sealing_keys issuers"
ASSEMBLY = "registry config accounts"

ARROWS = {
    # words: what everything is said in; each depends on next to nothing
    "errors": "",
    "forks": "",
    "headers": "",
    "clock": "errors",
    "durations": "",
    "typed": "",
    "tokens": "errors",
    "uri": "errors",
    "private_files": "errors",
    "prompts": "errors",
    "textfile": "errors private_files",
    "deadline": "clock errors",
    "findings": "",
    "permissions": "errors",
    "records": "errors tokens",
    "events": "clock errors records",
    # contracts: what a backend, a key and an issuer promise; the rules and the wire they share
    "provider": WORDS,
    "issuer": WORDS,
    "sealing": WORDS,
    "stages": WORDS,
    "answers": f"{WORDS} headers",
    "http": f"{WORDS} answers deadline forks headers __version__",
    "key_wrapping": "errors sealing",
    # logic: decides, and knows no backend
    "cache_state": "clock errors tokens",
    "cache": f"{WORDS} {CONTRACTS} forks cache_state",
    "rotation": f"{WORDS} {CONTRACTS}",
    "client": f"{WORDS} {CONTRACTS} forks cache cache_state private_files",
    "chain": f"{WORDS} {CONTRACTS}",
    # adapters: the only home of SDKs; they know neither each other nor the logic
    "clouds": f"{WORDS} {CONTRACTS} deadline forks headers",
    "providers": f"{WORDS} {CONTRACTS} clouds deadline private_files",
    "sealing_keys": f"{WORDS} {CONTRACTS} clouds deadline forks private_files prompts key_wrapping",
    "issuers": f"{WORDS} {CONTRACTS} prompts",
    "examinations": f"{WORDS} {CONTRACTS} clouds deadline findings headers permissions private_files providers sealing_keys",
    # assembly: joins them by strings, so its imports stop at the contracts
    "registry": f"{WORDS} {CONTRACTS} chain findings",
    "config": f"{WORDS} typed",
    "accounts": f"{WORDS} {CONTRACTS} forks cache rotation registry config typed",
    "provisioning": "config errors private_files typed uri",
    # entry points: may use everything above, never each other
    "cli": f"{WORDS} {CONTRACTS} {LOGIC} {ADAPTERS} {ASSEMBLY} examinations findings permissions prompts provisioning textfile typed __version__",
    "runtimes": f"{WORDS} {CONTRACTS} {LOGIC} {ASSEMBLY} forks typed",
    "integrations": f"{WORDS} {CONTRACTS} forks cache_state cache client registry __version__",
    "testing": f"{WORDS} {CONTRACTS} {LOGIC} {ADAPTERS} {ASSEMBLY}",
    # … and one that imports almost nothing, so that it can disagree with client and issuers
    "emulator": "errors clock",
}

EXCEPTIONS = {
    ("cli", "emulator"): "quickstart and emulator start it",
    ("testing", "emulator"): "the fixture cmzon_emulator starts it",
}

UPWARDS_INSIDE_A_FUNCTION = {
    ("client", "registry"): "Client('a URI') opens it",
    ("issuers", "registry"): "CMzonIssuer('a URI') opens it",
}

PACKAGES_AT_MODULE_LEVEL = {
    "cli": "click",
    "emulator": "jinja2 starlette uvicorn",  # jinja2 with the first page
    "http": "anyio httpcore2",  # its network backends are subclasses of the engine's; loaded with the first request
    "integrations": "requests",  # its auth objects are subclasses of their libraries'
    "runtimes": "celery",  # tasks are made where they stand
    "testing": "pytest",
}
"""All other packages that are not Python's own are imported inside functions, when needed."""


@dataclass(frozen=True)
class Import:
    module: str
    """Where it stands: ``cli.put``."""
    target: str
    """What it imports, absolute: ``cmzon_secrets.tokens``."""
    deferred: bool
    """Inside a function."""
    for_types_only: bool
    line: int

    @property
    def unit(self) -> str:
        return self.module.split(".")[0]

    @property
    def of_ours(self) -> bool:
        return self.target.split(".")[0] == PACKAGE

    @property
    def target_unit(self) -> str:
        return self.target.split(".")[1]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


MODULES = {
    ".".join((PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, ast.parse(path.read_text())


def imports() -> Iterator[Import]:
    for name, tree in modules():
        if name != "__init__":
            yield from _imports_of(name, tree, deferred=False, for_types_only=False)


def _imports_of(name, node, *, deferred, for_types_only):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in _targets(child):
                yield Import(name, target, deferred, for_types_only, child.lineno)
        inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typed = for_types_only or (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        )
        yield from _imports_of(name, child, deferred=inside, for_types_only=typed)


def _targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"line {node.lineno}: a relative import"
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    if node.module == PACKAGE:
        return names
    return [name if name in MODULES else node.module for name in names]


ALL_IMPORTS = list(imports())


def test_the_table_names_every_unit_there_is():
    assert {name.split(".")[0] for name, _ in modules()} - {"__init__"} == set(ARROWS)


def test_arrows_in_the_table_point_upwards_only():
    above = {"__version__"}
    for unit, targets in ARROWS.items():
        assert set(targets.split()) - {unit} <= above | (_layer_of(unit) - {unit}), unit
        above.add(unit)


def _layer_of(unit):
    """Contracts may name each other, as a group; no other layer may."""
    return set(f"{CONTRACTS} {WORDS}".split()) if unit in CONTRACTS.split() else set()


def test_every_import_follows_an_arrow():
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.of_ours
        and found.target_unit != found.unit
        and found.target_unit not in ARROWS[found.unit].split()
        and (found.unit, found.target_unit) not in EXCEPTIONS
        and not (found.deferred and (found.unit, found.target_unit) in UPWARDS_INSIDE_A_FUNCTION)
    ]
    assert wrong == []


def test_there_is_no_exception_that_nobody_needs():
    used = {(found.unit, found.target_unit) for found in ALL_IMPORTS if found.of_ours}
    assert set(EXCEPTIONS) | set(UPWARDS_INSIDE_A_FUNCTION) <= used


def test_modules_do_not_import_each_other_in_a_circle():
    needs: dict[str, set[str]] = {}
    known = {name for name, _ in modules()}
    for found in ALL_IMPORTS:
        if found.of_ours and not found.deferred and not found.for_types_only:
            target = found.target.removeprefix(f"{PACKAGE}.")
            if target in known and target != found.module:
                needs.setdefault(found.module, set()).add(target)
    done: set[str] = set()
    while ready := {m for m, wanted in needs.items() if wanted <= done | (known - set(needs))}:
        done |= ready
        needs = {m: wanted for m, wanted in needs.items() if m not in ready}
    assert needs == {}


def test_packages_of_others_are_imported_when_needed():
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if not found.of_ours
        and not found.deferred
        and not found.for_types_only
        and (package := found.target.split(".")[0]) not in sys.stdlib_module_names
        and package not in PACKAGES_AT_MODULE_LEVEL.get(found.unit, "").split()
    ]
    assert wrong == []


def test_the_package_itself_imports_nothing_but_pythons_own():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    found = _imports_of("__init__", tree, deferred=False, for_types_only=False)
    eager = {i.target for i in found if not i.for_types_only}
    assert eager == {"__future__", "importlib"}


# every adapter is proved


def adapters() -> dict[str, set[str]]:
    """Module of an adapter → its public classes; helpers beside them have none."""
    found = {}
    for folder in ADAPTERS.split():
        for path in sorted((SOURCE / folder).rglob("*.py")):
            name = ".".join((PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts))
            found[name] = set(_adapter_classes(name))
    return {name: classes for name, classes in found.items() if classes}


def _adapter_classes(name):
    for member in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
        if isinstance(member, type) and member.__module__ == name and issubclass(member, PROMISES):
            yield member.__name__


def proved() -> set[str]:
    """Every class that a test class running a suite mentions."""
    return {
        name.id
        for path in CONFORMANCE.glob("test_*.py")
        for cls in ast.walk(ast.parse(path.read_text()))
        if isinstance(cls, ast.ClassDef) and _runs_a_suite(cls)
        for name in ast.walk(cls)
        if isinstance(name, ast.Name)
    }


def _runs_a_suite(cls: ast.ClassDef) -> bool:
    return cls.name.startswith("Test") and any(
        isinstance(base, ast.Name) and base.id.endswith("Suite") for base in cls.bases
    )


@pytest.mark.parametrize(("module", "classes"), adapters().items(), ids=adapters())
def test_every_adapter_passes_a_suite(module, classes):
    assert classes <= proved(), f"no class in tests/conformance runs a suite on {module}"


def test_the_registry_and_the_folders_name_the_same_adapters():
    registry = importlib.import_module(f"{PACKAGE}.registry")
    rows = {**registry._PROVIDERS, **registry._ISSUERS}
    targets = {*rows.values(), *registry._KEYS.values()}
    assert targets == {f"{module}:{cls}" for module, names in adapters().items() for cls in names}
