"""What docs/client.md and the README show of sending does run, in the order of the page."""

import re
from pathlib import Path

import pytest

from cmzon_secrets import Client, TokenIssuer, TokenProvider

ROOT = Path(__file__).parents[2]
MESSAGES = {"docs/client.md": 5, "README.md": 2}
"""How many the snippets of a page send."""


@pytest.fixture
def account(in_its_environment, tmp_path, monkeypatch):
    """What the pages suppose: its token lies where they say, and another may manage tokens."""
    account = in_its_environment
    (tmp_path / "token.key").symlink_to(tmp_path / "the.key")
    (tmp_path / "token.sealed").symlink_to(tmp_path / "acme.sealed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMZON_API_TOKEN", account.store.get().reveal())
    monkeypatch.setenv("CMZON_ADMIN_TOKEN", account.emulator.admin_token)
    return account


@pytest.mark.parametrize("page", MESSAGES)
def test_the_snippets_of_a_page_run_one_after_the_other(account, page):
    pytest.importorskip("opentelemetry", reason="not run: opentelemetry (not installed)")
    pytest.importorskip("requests", reason="not run: requests (not installed)")
    names = {"later": print, "report": print}
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        with Client(account.uri) as names["client"]:  # for those that send with the program's own
            exec(snippet, names)
    for made in names.values():  # as the end of a program does
        if isinstance(made, Client | TokenIssuer | TokenProvider):
            made.close()
    assert account.messages == MESSAGES[page]
