"""The project's own pages are true: links lead somewhere, every dependency has its reason."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [target for target in targets if "://" not in target and target[:7] != "mailto:"]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_dependency_and_no_other_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted} - {"cmzon-secrets"}
    rows = re.findall(r"^\|.*$", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.rsplit("|", 2)[0])}
    assert explained == names


def test_the_changelog_knows_the_version():
    from cmzon_secrets import __version__

    assert __version__ in (ROOT / "CHANGELOG.md").read_text()
