"""Chromium on the dashboard's pages, watched: what a page complains of fails the test.

A complaint is an error in the console or in a script, a breach of the page's own Content Security
Policy, or a request to anything but the emulator.
"""

import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
AXE = "axe-core@4.14.1"
IN_LIGHT_AND_DARK = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""What axe-core looks for: in the dark nothing but the colours is another."""
PATIENCE = 15_000
"""Milliseconds that a page gets to show something; a loaded machine needs some."""

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""A browser without windows hides no page; this tells the page that it is hidden."""
REPORT = """addEventListener("securitypolicyviolation",
  (event) => console.error(`CSP: ${event.violatedDirective} ${event.sample} ${event.blockedURI}`))"""


class Visits:
    """Opens pages, each call in a profile of its own, and collects what they complain of.

    ``expected``: a pattern of complaints that the test provokes.
    """

    def __init__(self, chromium):
        self.expected = None
        self._chromium = chromium
        self._contexts = []
        self._complaints = []
        self._refused = set()

    def __call__(self, base_url, path="/dashboard", **options):
        """A page of the emulator at ``base_url``; ``options`` are Playwright's for a context."""
        context = self._chromium.new_context(base_url=base_url, **options)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(REPORT)
        self._watch(context, base_url)
        page = context.new_page()
        page.goto(path)
        return page

    def _watch(self, context, base_url):
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self._complain(f"script: {error.error}"))
        context.on("response", self._note_response)
        context.on("request", lambda request: self._note_request(request, base_url))

    def _note_console(self, message):
        if message.type in ("error", "warning"):
            self._complain(message.text, message.location["url"])

    def _note_request(self, request, base_url):
        if not request.url.startswith((f"{base_url}/", "data:")):
            self._complain("request to another host", request.url)

    def _note_response(self, response):
        if 400 <= response.status < 500 and response.request.is_navigation_request():
            self._refused.add(response.url)  # a form that was refused, as its page says

    def _complain(self, text, url=""):
        self._complaints.append((text, url))

    def complaints(self):
        """What nobody expected."""
        return [
            f"{text} {url}"
            for text, url in self._complaints
            if not (text.startswith("Failed to load resource") and url in self._refused)
            if not (self.expected and re.search(self.expected, text))
        ]

    def close(self):
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="module")
def launch():
    """A function that starts a browser with further arguments, for one file of tests.

    Not for a whole run: while Playwright is there, nothing else in this thread can use asyncio.
    """
    from playwright.sync_api import expect, sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("not run: chromium (not installed)")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:

        def launched(*arguments):
            return playwright.chromium.launch(
                executable_path=program, args=[*ARGUMENTS, *arguments]
            )

        yield launched


@pytest.fixture(scope="module")
def chromium(launch):
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture
def visit(chromium):
    visits = Visits(chromium)
    yield visits
    visits.close()
    complaints = visits.complaints()
    assert not complaints, complaints


def wait_until(page, condition):
    """Wait, while the page goes on, for what cannot be read from it alone."""
    for _ in range(PATIENCE // 25):
        if condition():
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"it did not become true: {condition}")


@pytest.fixture(scope="session")
def axe():
    """A function that has axe-core look at a page, in light and dark.

    It gives what was found, a line for each element.
    """
    source = _axe_source().read_text(encoding="utf-8")

    def found(page):
        page.evaluate(f"{source}; undefined")
        violations = []
        for scheme, options in IN_LIGHT_AND_DARK.items():
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            told = page.evaluate("async (options) => (await axe.run(options)).violations", options)
            violations += told
        return [
            f"{violation['id']}: {violation['help']} — {node['html'][:200]}"
            for violation in violations
            for node in violation["nodes"]
        ]

    return found


def _axe_source():
    """axe-core, installed once for all who run tests with this environment."""
    folder = Path(sys.prefix) / AXE
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    folder.mkdir(exist_ok=True)
    with (folder / "installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            _install(folder)
    return script


def _install(folder):
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("not run: axe-core (npm is not installed)")
    # Without a lock file, which would name the registry that was asked.
    command = [npm, "install", "--prefix", folder, "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(
        [*command, "--ignore-scripts", AXE], capture_output=True, check=False, text=True
    )
    if done.returncode:
        pytest.skip(f"not run: {AXE} (npm could not install it)")
