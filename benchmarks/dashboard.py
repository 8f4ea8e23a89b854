"""How long a page with 5,000 messages takes until somebody can use it, in real Chromium.

From asking for the page to the moment in which a click on a conversation has been answered; the page
of all messages, and the newest of them, which are shown unless more are asked for. The emulator is a
program of its own, with its state on disk. Each round has a new profile, so nothing is cached; the
figures are medians.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from sys import executable
from typing import TYPE_CHECKING

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNT = 5_000
ROUNDS = 5
LIMIT = 1.0
"""Seconds."""
PAGES = {"the newest": "/dashboard", "all": "/dashboard?limit=all"}
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


def fill(account: Account) -> None:
    """Many messages to a hundred numbers."""
    for n in range(COUNT):
        to, message_id = f"+1202555{n % 100:04}", f"msg_{n:024}"
        body = {"to": to, "type": "text", "text": {"body": f"Your parcel {n} is on its way."}}
        answer = {"id": message_id, "status": "accepted", "to": to}
        account.exchanges.add(
            presented=(),
            idempotency_key=f"key-{n}",
            request_body=json.dumps(body),
            id=f"req_{n:016}",
            at=account.clock.timestamp(),
            seconds=0.001,
            status=200,
            message_id=message_id,
            token_id=account.admin.id,
            ip="127.0.0.1",
            notes=[],
            request_headers=[("Content-Type", "application/json")],
            response_headers=[("Content-Type", "application/json")],
            response_body=json.dumps(answer),
        )


@contextmanager
def serving(state: Path) -> Iterator[str]:
    """The URL of an emulator that runs until the block ends."""
    command = [executable, "-m", "cmzon_secrets.cli", "emulator", "--json", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.send_signal(signal.SIGTERM)


def used(browser: Browser, base_url: str, path: str) -> tuple[float, float]:
    """Seconds until the page is there, and until a click on it has been answered."""
    context = browser.new_context(base_url=base_url)
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(path, wait_until="domcontentloaded")
    loaded = time.perf_counter() - begun
    page.locator("#conversations a").nth(1).click(no_wait_after=True)
    page.wait_for_url("**/dashboard?to=*", wait_until="commit")
    answered = time.perf_counter() - begun
    page.wait_for_load_state()  # one that is closed half-way can keep the browser busy for a minute
    context.close()
    return loaded, answered


def measured(browser: Browser, base_url: str) -> bool:
    """Print the figures; whether all are within the limit."""
    within = True
    for name, path in PAGES.items():
        used(browser, base_url, path)
        rounds = [used(browser, base_url, path) for _ in range(ROUNDS)]
        loaded, answered = (median(column) for column in zip(*rounds, strict=True))
        print(
            f"{COUNT:,} messages, {name:10}   loaded {loaded * 1000:6.0f} ms"
            f"   a click answered {answered * 1000:6.0f} ms   at most {LIMIT * 1000:.0f}"
        )
        within = within and answered <= LIMIT
    return within


def main() -> None:
    program = shutil.which("chromium")
    if program is None:
        print("not run: chromium is not installed")
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        state = Path(folder) / "state"
        with Emulator(state=state) as emulator:
            emulator._ask(fill)  # noqa: SLF001  # as the API does, in a tenth of the time
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        with serving(state) as base_url:
            within = measured(browser, base_url)
        browser.close()
    if not within:
        raise SystemExit("dashboard: a figure is out of bounds")


if __name__ == "__main__":
    main()
