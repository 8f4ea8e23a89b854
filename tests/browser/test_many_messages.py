"""Five thousand messages, kept with the state: all there, and all within reach."""

import json

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from cmzon_secrets.emulator import Emulator

COUNT = 5_000
CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The URL of an emulator that has so many."""
    with Emulator(state=tmp_path_factory.mktemp("full") / "state") as emulator:
        emulator._ask(fill)  # as the API does, in a tenth of the time
        yield emulator.base_url


def fill(account):
    for n in range(COUNT):
        to = TO if n % 2 else f"+1202555{n % 200:04}"
        account.exchanges.add(
            presented="",
            idempotency_key=None,
            request_body=json.dumps({"to": to, "type": "text", "text": {"body": f"message {n}"}}),
            id=f"req_{n:016}",
            at=account.clock.timestamp(),
            seconds=0.001,
            status=200,
            message_id=f"msg_{n:024}",
            token_id=account.admin.id,
            ip="127.0.0.1",
            notes=[],
            request_headers=[("Content-Type", "application/json")],
            response_headers=[("Content-Type", "application/json")],
            response_body=json.dumps({"id": f"msg_{n:024}", "status": "accepted", "to": to}),
        )


def test_the_newest_are_shown_and_all_are_counted(full, visit):
    page = visit(full)
    expect(page.locator("main")).to_contain_text(f"{COUNT:,} messages")
    bubbles = page.locator("#bubbles li:not(.note)")
    assert bubbles.count() == 200
    expect(page.get_by_text(f"message {COUNT - 1}", exact=True).last).to_be_in_viewport()


def test_all_of_them_are_there_and_can_be_scrolled_to(full, visit):
    page = visit(full, f"{CONVERSATION}&limit=all")
    bubbles = page.locator("#bubbles li:not(.note)")
    assert bubbles.count() == COUNT // 2
    texts = bubbles.locator("p").evaluate_all("(all) => all.map((each) => each.textContent)")
    assert texts == [f"message {n}" for n in range(1, COUNT, 2)]
    expect(bubbles.last).to_be_in_viewport()
    page.locator("#screen").hover()
    page.mouse.wheel(0, -10_000_000)
    expect(bubbles.first).to_be_in_viewport()
    bubbles.first.get_by_role("link").click()
    expect(page.locator("#request")).to_contain_text('"message 1"')


def test_one_of_them_is_found(full, visit):
    page = visit(full)
    page.keyboard.press("/")
    page.keyboard.type("MESSAGE 4321")
    page.keyboard.press("Enter")
    expect(page.locator("#bubbles li:not(.note) p")).to_have_text(["message 4321"])
