"""One account's whole life, as somebody with a browser sees it."""

import threading
import time
from contextlib import closing

from playwright.sync_api import expect

from cmzon_secrets import Client, CMzonIssuer, RotationPolicy, Rotator, Token, TokenCache
from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.testing import MemoryStore

TO = "+12025550123"
POLICY = RotationPolicy("acme", grace=0.5, reader_ttl=0.25, request_deadline=0.25)


def generate(page, name="acme"):
    """Make a token by the form; its id and its value."""
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("messages:send").first.check()
    page.get_by_role("button", name="Generate New Token").click()
    page.get_by_role("heading", name="New token", level=1).wait_for()
    value = page.locator("#value").inner_text()
    assert value.startswith("cmz_")
    token_id = page.locator("main dd code").first.inner_text()
    return token_id, value


def stored(token_id, value):
    store = MemoryStore()
    store.stage(Token(value, id=token_id))
    store.promote(token_id, replacing=None)
    return store


def mark(page):
    """Leave a mark that a reload would take away."""
    page.evaluate("() => { window.marked = true; }")
    return page


def still_the_same(page):
    return page.evaluate("() => window.marked === true")


def rotate(rotator, store):
    """Begin a rotation; the id of the new token."""
    assert rotator.run(force=True).state in ("done", "waiting")
    return store.get().id


def finish(rotator):
    """Go on until the old token is dead."""
    while rotator.retire().state != "done":
        time.sleep(0.05)


class Sender:
    """A thread that sends until it is stopped, and what became of it."""

    def __init__(self, client):
        self.sent, self.failures = 0, []
        self._client = client
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._over.wait(0.025):
            try:
                self._client.send_message(TO, f"under load {self.sent}")
                self.sent += 1
            except AuthenticationError as error:
                self.failures.append(error)

    def stop(self):
        self._over.set()
        self._thread.join()


def stage_of(page, token_id):
    return page.locator(f"[id='{token_id}'] .stage")


def test_a_token_is_made_used_rotated_under_load_and_revoked(cmzon_emulator, api, visit):
    settings = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    first, value = generate(settings)
    tabs = settings.context
    inbox, rotation, tokens = (mark(tabs.new_page()) for _ in range(3))
    for page, path in (
        (inbox, f"/dashboard?to=%2B{TO[1:]}"),
        (rotation, "/dashboard/rotation"),
        (tokens, "/dashboard/tokens"),
    ):
        page.goto(path)
        expect(page.locator("#live")).to_have_text("live")
        mark(page)
    expect(stage_of(tokens, first)).to_have_text("pending")

    store, admin = stored(first, value), stored("admin", cmzon_emulator.admin_token)
    with (
        closing(CMzonIssuer(admin, base_url=cmzon_emulator.base_url)) as issuer,
        TokenCache(store, ttl=POLICY.reader_ttl) as cache,
        Client(cache, base_url=cmzon_emulator.base_url) as client,
    ):
        rotator = Rotator(store, issuer, POLICY)
        client.send_message(TO, "Hello from a real client!")
        expect(inbox.get_by_text("Hello from a real client!").first).to_be_visible()
        expect(stage_of(tokens, first)).to_have_text("current")

        sender = Sender(client)
        try:
            second = rotate(rotator, store)
            expect(stage_of(tokens, second)).to_have_text("current")
            expect(rotation.locator(f"#drawn-{second} .mark.promoted")).to_have_count(1)
            finish(rotator)
            expect(stage_of(tokens, first)).to_have_text("revoked")
            expect(rotation.locator(f"#drawn-{first} .mark.revoked")).to_have_count(1)

            third = rotate(rotator, store)
            expect(stage_of(tokens, third)).to_have_text("current")
            expect(stage_of(tokens, second)).to_have_text("previous")
            expect(rotation.locator(f"#drawn-{second} .life.grace")).to_have_count(1)
            assert sender.failures == []

            revoke(settings, third)
            expect(stage_of(tokens, third)).to_have_text("revoked")
            expect(inbox.get_by_text("✗ 401").first).to_be_visible()
        finally:
            sender.stop()
    assert sender.sent > 10
    assert sender.failures
    assert all(map(still_the_same, (inbox, rotation, tokens)))
    assert api.messages() == sender.sent + 1


def revoke(page, token_id):
    page.goto(f"/dashboard/tokens/{token_id}")
    page.get_by_text("Revoke…").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="revoked")).to_be_visible()


def test_the_value_is_shown_once_and_a_reload_makes_no_other_token(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    token_id, value = generate(page)
    page.reload()  # which sends the form again
    assert page.url.startswith(f"{cmzon_emulator.base_url}/dashboard/tokens/{token_id}")
    assert value not in page.content()
    for path in ("/dashboard/tokens", "/dashboard/audit", "/dashboard/rotation", "/dashboard"):
        page.goto(path)
        assert value not in page.content()
    page.go_back()
    assert value not in page.content()
    listed = api.call("GET", "/v1/tokens?name=acme").json()["data"]
    assert [token["id"] for token in listed] == [token_id]


def test_an_impatient_second_click_makes_one_token(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    page.get_by_label("Name", exact=True).fill("acme")
    page.get_by_role("button", name="Generate New Token").dblclick()
    page.wait_for_url("**/dashboard/tokens**")
    page.get_by_role("heading", level=1).filter(has_text="API Settings").wait_for(state="detached")
    assert len(api.call("GET", "/v1/tokens?name=acme").json()["data"]) == 1


def test_the_copied_value_is_the_token(cmzon_emulator, api, visit):
    page = visit(
        cmzon_emulator.base_url,
        "/dashboard/tokens",
        permissions=["clipboard-read", "clipboard-write"],
    )
    _, value = generate(page)
    page.get_by_role("region", name="Its value").get_by_role("button", name="Copy").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == value
    assert api.send(token=value).status_code == 200
