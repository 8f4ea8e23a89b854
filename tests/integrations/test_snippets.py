"""What docs/integrations.md and the README show of integrations does run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELLO = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}


def snippets():
    page = (ROOT / "docs" / "integrations.md").read_text()
    readme = (ROOT / "README.md").read_text().partition("## Fits what you have")[2]
    (section, *_) = readme.partition("\n## ")
    return re.findall(r"```python\n(.*?)```", page + section, re.DOTALL)


@pytest.fixture
def names_of_the_page(in_its_environment, tmp_path, monkeypatch):
    """The account's token is where the snippets say that it is."""
    (tmp_path / "token.key").symlink_to(tmp_path / "the.key")
    (tmp_path / "token.sealed").symlink_to(tmp_path / "acme.sealed")
    monkeypatch.chdir(tmp_path)
    return in_its_environment


@pytest.mark.parametrize("snippet", snippets())
def test_a_snippet_runs_and_what_it_makes_can_send(names_of_the_page, snippet):
    requests = pytest.importorskip("requests", reason="not run: requests (not installed)")
    made = {}
    exec(snippet, made)
    if "api" not in made:
        session = made.get("session") or requests
        url = f"{names_of_the_page.emulator.base_url}/v1/messages"
        assert session.post(url, json=HELLO, headers=made.get("headers")).status_code == 200
    assert names_of_the_page.messages == 1


def test_there_are_snippets():
    assert len(snippets()) == 4
