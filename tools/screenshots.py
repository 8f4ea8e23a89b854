"""Takes the pictures in docs/images: our own rotation under load, in real Chromium.

    python tools/screenshots.py [--output docs/images]

The rotation in them is not staged: an emulator, a client that sends 40 messages a second, and a
rotator that replaces the token five times with a grace of seconds, which takes more than a minute. A
busy machine shows in the picture. Chromium has to be on PATH.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import httpx2
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from cmzon_secrets import (
    Client,
    CMzonIssuer,
    RateLimits,
    RotationPolicy,
    Rotator,
    TokenCache,
)
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing import MemoryStore

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images"
LARGEST = 150_000
"""Bytes of a picture: they are in the repository."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")

ROTATIONS = 5
BETWEEN = 12.0
"""Seconds from one rotation to the next."""
THREADS = 8
PACE = 40.0

DANA, LEE, OSEI = "+12025550123", "+12025550147", "+12025550164"  # 555-01xx is for fiction
CONVERSATIONS = (
    (OSEI, "A reminder: your appointment is tomorrow at 9:15."),
    (LEE, "Your table for two is booked: Friday, 19:30."),
    (DANA, "Thank you for your order 4711."),
    (LEE, "The terrace is closed on Friday. Would a table by the window do?"),
    (DANA, "Order 4711 has left our warehouse."),
    (OSEI, "قد تم تأكيد موعدك غدا في الساعة 9:15."),
    (DANA, "It arrives today from 14:00 to 16:00. Nobody home? Answer NEIGHBOUR or SHOP."),
    (LEE, "We look forward to seeing you!"),
    (DANA, "Your parcel waits for you at the shop in Main Street until Saturday."),
)
BROKEN = (3, 7)
"""Of these messages, those before which something breaks for once, so that the client repeats them."""
FAULTS: tuple[dict[str, object], ...] = (
    {"route": "POST /v1/messages", "status": 429, "retry_after": 2, "count": 20},
    {"route": "POST /v1/messages", "latency": 0.4, "probability": 0.1, "seed": 7},
)


class Picture(NamedTuple):
    """A page as it is photographed; of the elements that ``click`` finds the last is clicked first."""

    name: str
    path: str
    width: int = 1280
    height: int = 800
    scheme: Literal["light", "dark"] = "light"
    click: str = ""


ROTATION = Picture("rotation", "/dashboard/rotation", height=920)
INBOX = Picture(
    "inbox", f"/dashboard?to=%2B{LEE[1:]}", width=1100, height=610, click="#bubbles li:not(.note) a"
)
PHONE = Picture("phone", f"/dashboard?to=%2B{DANA[1:]}", width=390, height=700)
REHEARSE = Picture("rehearse", "/dashboard/rehearse", scheme="dark")


def main() -> None:
    """Play the rotation, and take each picture when there is something to be seen on it."""
    folder = _options().parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        with rotating() as emulator:
            take(browser, emulator, ROTATION, folder)
        with Emulator() as emulator:
            converse(emulator)
            take(browser, emulator, INBOX, folder)
            take(browser, emulator, PHONE, folder)
            for fault in FAULTS:
                add_fault(emulator, fault)
            take(browser, emulator, REHEARSE, folder)


@contextmanager
def rotating() -> Iterator[Emulator]:
    """An emulator whose account has been through its rotations, while messages still flow."""
    with ExitStack() as open_things:
        emulator = open_things.enter_context(Emulator())
        rotator, client = open_account(emulator, open_things)
        open_things.enter_context(sending(client))
        rotate(rotator)
        yield emulator


def open_account(emulator: Emulator, open_things: ExitStack) -> tuple[Rotator, Client]:
    """A store with its first token, what rotates it, and a client that sends with it."""
    store, admin = MemoryStore(), MemoryStore()
    admin.paste(emulator.admin_token)
    issuer = CMzonIssuer(admin, base_url=emulator.base_url)
    open_things.callback(issuer.close)
    scopes = ("messages:send",)
    policy = RotationPolicy("acme", scopes=scopes, grace=6.0, reader_ttl=0.5, request_deadline=1.0)
    rotator = Rotator(store, issuer, policy)
    rotator.run()
    cache = open_things.enter_context(TokenCache(store, ttl=0.5))
    limits = RateLimits(per_second=PACE)
    client = Client(cache, base_url=emulator.base_url, limits=limits)
    return rotator, open_things.enter_context(client)


@contextmanager
def sending(client: Client) -> Iterator[None]:
    """Threads that send until the block ends."""
    stop = threading.Event()
    messages = itertools.cycle(CONVERSATIONS)

    def send_on() -> None:
        while not stop.is_set():
            client.send_message(*next(messages))

    threads = [threading.Thread(target=send_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def rotate(rotator: Rotator) -> None:
    """Replace the token again and again, each time retiring the one before, and end within a grace."""
    for _ in range(ROTATIONS):
        run_until(rotator, time.monotonic() + BETWEEN)
        rotator.run(force=True)
    run_until(rotator, time.monotonic() + 4.0)


def run_until(rotator: Rotator, end: float) -> None:
    """What a schedule does."""
    while time.monotonic() < end:
        rotator.run()
        time.sleep(0.25)


def converse(emulator: Emulator) -> None:
    """A few conversations, at the pace of people who are in a hurry."""
    admin = MemoryStore()
    admin.paste(emulator.admin_token)
    with Client(admin, base_url=emulator.base_url) as client:
        for number, (to, text) in enumerate(CONVERSATIONS):
            if number in BROKEN:
                add_fault(emulator, {"route": "POST /v1/messages", "status": 503, "count": 1})
            client.send_message(to, text)
            time.sleep(1.0)


def add_fault(emulator: Emulator, fault: dict[str, object]) -> None:
    """Put a fault in force."""
    httpx2.post(f"{emulator.base_url}/_emulator/faults", json=fault).raise_for_status()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that is on PATH."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"error: {BROWSERS[0]} — it is not on PATH; install it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        yield browser
        browser.close()


def take(browser: Browser, emulator: Emulator, picture: Picture, folder: Path) -> None:
    """Write a picture, and print where it is and how large."""
    size = ViewportSize(width=picture.width, height=picture.height)
    file = folder / f"{picture.name}.png"
    with browser.new_context(viewport=size, color_scheme=picture.scheme) as context:
        page = context.new_page()
        page.goto(f"{emulator.base_url}{picture.path}")
        if picture.click:
            page.locator(picture.click).last.click()
            page.wait_for_load_state()
        page.locator("#live[data-state=live]").wait_for()
        page.screenshot(path=file)
    written = file.stat().st_size
    if written > LARGEST:
        sys.exit(f"error: {file} — {written} bytes are more than the {LARGEST} it may have")
    print(f"{file}: {written} bytes")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser


if __name__ == "__main__":
    main()
