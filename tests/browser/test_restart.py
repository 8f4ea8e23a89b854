"""The emulator is killed and started again, with the same state on the same port, under open pages."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from servers.child_process import free_port

SOURCE = Path(__file__).parents[2] / "src"
CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"

BROKEN = r"net::ERR_"
"""What a browser says of connections that break."""


class Program:
    """``cmzon-secrets emulator`` with a state folder, on one port through all its lives."""

    def __init__(self, folder):
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process = None

    def start(self):
        words = ("emulator", "--json", "--port", str(self.port), "--state", str(self._folder))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cmzon_secrets.cli", *words],
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
            cwd=self._folder.parent,
        )
        return json.loads(self._process.stdout.readline())

    @property
    def admin_token(self):
        return (self._folder / "admin-token").read_text().strip()

    def kill(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None


@pytest.fixture
def program(tmp_path):
    program = Program(tmp_path / "state")
    program.start()
    yield program
    program.kill()


def test_open_pages_come_back_with_what_was_there_and_follow_what_is_new(program, calling, visit):
    visit.expected = BROKEN
    api = calling(program.base_url, program.admin_token)
    api.send("before")
    api.issue("made before")  # what is answered 201 survives, and so does what came before it
    page = visit(program.base_url, CONVERSATION)
    settings = page.context.new_page()
    settings.goto("/dashboard/tokens")
    for tab in (page, settings):
        expect(tab.locator("#live")).to_have_text("live")
    settings.get_by_label("Name", exact=True).fill("half a na")

    program.kill()
    for tab in (page, settings):
        expect(tab.locator("#live")).to_have_text("reconnecting…")
    program.start()
    for tab in (page, settings):
        expect(tab.locator("#live")).to_have_text("live")
    expect(page.locator("#bubbles")).to_contain_text("before")
    api.send("after")
    expect(page.locator("#bubbles")).to_contain_text("after")

    name = settings.get_by_label("Name", exact=True)
    expect(name).to_have_value("half a na")
    name.press_sequentially("me")
    settings.get_by_role("button", name="Generate New Token").click()
    expect(settings.get_by_role("heading", name="New token", level=1)).to_be_visible()
    assert api.send(token=settings.locator("#value").inner_text()).status_code == 200


def test_without_a_script_a_form_of_before_says_to_load_the_page_again(program, visit):
    visit.expected = BROKEN
    page = visit(program.base_url, "/dashboard/tokens", java_script_enabled=False)
    program.kill()
    program.start()
    page.get_by_label("Name", exact=True).fill("acme")
    page.get_by_role("button", name="Generate New Token").click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile("load it again"))
