"""The public names are one list: the lazy table, ``__all__``, what type checkers see, what is there."""

import ast
import importlib
import pickle
from pathlib import Path

import pytest

import cmzon_secrets
import cmzon_secrets.testing

CONTRACT = {
    "AsyncClient",
    "Client",
    "CMzonIssuer",
    "ManualIssuer",
    "RateLimits",
    "RotationPolicy",
    "RotationReport",
    "Rotator",
    "SendResult",
    "Token",
    "TokenCache",
    "TokenInfo",
    "TokenIssuer",
    "TokenProvider",
    "TokenRequest",
    "TokenStore",
    "Versions",
    "open_provider",
    "open_store",
}
PACKAGES = [cmzon_secrets, cmzon_secrets.testing]


def seen_by_type_checkers(package) -> dict[str, str]:
    """Name → module it comes from, under ``if TYPE_CHECKING``; each as ``X as X``, a re-export."""
    found = {}
    for node in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                [alias] = line.names
                assert alias.asname == alias.name, f"{alias.name} is not re-exported"
                found[alias.name] = line.module
    return found


def test_the_names_are_those_of_the_contract():
    assert set(cmzon_secrets.__all__) == CONTRACT


@pytest.mark.parametrize("package", PACKAGES)
def test_the_lazy_table_is_what_type_checkers_see(package):
    table = {name: f"{package.__name__}.{home}" for name, home in package._HOMES.items()}
    assert table == seen_by_type_checkers(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_is_sorted_and_is_all(package):
    assert list(package._HOMES) == sorted(package._HOMES, key=lambda n: (n.islower(), n))
    assert list(package._HOMES) == package.__all__


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in PACKAGES for name in package.__all__]
)
def test_each_name_is_the_object_of_its_home(package, name):
    home = importlib.import_module(f"{package.__name__}.{package._HOMES[name]}")
    assert getattr(package, name) is getattr(home, name)
    assert name in home.__all__
    assert (getattr(package, name).__doc__ or "").strip()


def test_dir_shows_all_names():
    assert set(dir(cmzon_secrets)) >= CONTRACT | {"__version__"}


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="'Tokne'"):
        package.Tokne  # noqa: B018


def test_a_star_import_brings_exactly_the_names():
    namespace: dict[str, object] = {}
    exec("from cmzon_secrets import *", namespace)
    assert set(namespace) - {"__builtins__"} == CONTRACT


def test_the_package_is_typed_and_has_a_version():
    assert Path(cmzon_secrets.__file__).with_name("py.typed").exists()
    assert cmzon_secrets.__version__.count(".") == 2


def test_plain_records_survive_another_process():
    info = cmzon_secrets.TokenInfo("tok_1", name="acme")
    assert pickle.loads(pickle.dumps(info)) == info
