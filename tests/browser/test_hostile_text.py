"""Whatever somebody wrote is shown as it was written, and does nothing."""

import shutil
import subprocess
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from browser.hostile import HARM, POLYGLOT, SHORT, TEXTS, as_shown

pytestmark = pytest.mark.slow

CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"
SOME = [*TEXTS[::3], POLYGLOT]
"""For what takes a page each."""
HEADERS = [t for t in SHORT if t.isascii() and t.isprintable() and t == t.strip()][::2]
"""What can stand in a header at all."""


def text_of(page, selector="main"):
    """The text of a part of the page, shown or not."""
    return page.locator(selector).evaluate("(element) => element.textContent")


def missing(page, texts, selector="main"):
    shown = text_of(page, selector)
    return [text for text in texts if as_shown(text) not in shown]


def hrefs(page, selector):
    return page.locator(selector).evaluate_all("(links) => links.map((link) => link.href)")


def test_texts_of_messages_that_were_there_before_the_page(cmzon_emulator, api, visit):
    for text in TEXTS:
        assert api.send(text).status_code == 200
    page = visit(cmzon_emulator.base_url, CONVERSATION)
    assert missing(page, TEXTS) == []
    assert page.evaluate(HARM) == []


def test_texts_of_messages_that_arrive_while_the_page_is_open(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url, CONVERSATION)
    expect(page.locator("#live")).to_have_text("live")
    for text in TEXTS:
        api.send(text)
    api.send("the last of them")
    expect(page.locator("#bubbles").get_by_text("the last of them")).to_be_visible()
    assert missing(page, TEXTS) == []
    assert page.evaluate(HARM) == []


def test_the_details_of_every_message_show_what_was_sent(cmzon_emulator, api, visit):
    requests = [(text, api.send(text).headers["X-Request-Id"]) for text in SOME]
    page = visit(cmzon_emulator.base_url)
    for text, request in requests:
        page.goto(f"{CONVERSATION}&show={request}")
        assert as_shown(text) in text_of(page, "#bubbles")
        assert page.locator("#request").count() == 1
        assert page.evaluate(HARM) == [], text


def test_numbers_that_are_none(cmzon_emulator, api, visit):
    for text in TEXTS:
        assert api.send("to whom?", to=text).status_code == 400
    page = visit(cmzon_emulator.base_url)
    assert missing(page, [text[:64] for text in TEXTS]) == []
    assert page.evaluate(HARM) == []
    for href in hrefs(page, "#conversations a")[::4]:
        page.goto(href)
        assert page.evaluate(HARM) == [], href
        expect(page.locator("#bubbles").get_by_text("to whom?").first).to_be_visible()


def test_keys_and_other_headers(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url)
    for text in HEADERS:
        headers = {"Idempotency-Key": text, "User-Agent": text, "X-Note": text}
        answer = api.send(**headers)
        page.goto(f"/dashboard?show={answer.headers['X-Request-Id']}")
        assert text_of(page, "#request").count(text) == 3
        assert page.evaluate(HARM) == [], text


def test_names_of_tokens_on_every_page(cmzon_emulator, api, visit):
    ids = [api.issue(name)["id"] for name in SHORT]
    api.control("faults", route="POST /v1/messages", status=500, token=ids[0])
    page = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    assert missing(page, SHORT, "#tokens") == []
    for path in ("/dashboard", "/dashboard/tokens", "/dashboard/rotation", "/dashboard/rehearse"):
        page.goto(path)
        assert page.evaluate(HARM) == [], path
    page.goto("/dashboard/audit")
    assert missing(page, SHORT) == []
    assert page.evaluate(HARM) == []
    for name, token_id in list(zip(SHORT, ids, strict=True))[::3]:
        page.goto(f"/dashboard/tokens/{token_id}")
        assert as_shown(name) in text_of(page, "h1")
        assert page.evaluate(HARM) == [], name


def test_a_name_typed_into_the_form_comes_back_as_it_was(cmzon_emulator, visit):
    page = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    for name in (text for text in SOME if text in SHORT and text.isprintable()):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("IP allowlist").fill(f"{name}\nnot an address")
        page.get_by_role("button", name="Generate New Token").click()
        assert page.get_by_label("Name", exact=True).input_value() == name.strip()
        assert page.get_by_label("IP allowlist").input_value() == f"{name}\nnot an address".strip()
        assert page.evaluate(HARM) == [], name


@pytest.mark.parametrize(
    "path", ["/dashboard", "/dashboard/tokens", "/dashboard/rotation", "/dashboard/audit"]
)
def test_every_parameter_of_every_page(cmzon_emulator, api, visit, path):
    api.send("something to look for")
    page = visit(cmzon_emulator.base_url, path)
    fields = page.locator("form[method=get] [name], form:not([method]) [name]").evaluate_all(
        "(fields) => fields.map((field) => field.name)"
    )
    names = sorted({*fields, "to", "show", "limit", "done", "window", "rows", "name"})
    for text in (POLYGLOT, SHORT[0]):
        page.goto(f"{path}?{urlencode(dict.fromkeys(names, text))}")
        assert page.evaluate(HARM) == [], text
        for name in names:
            page.goto(f"{path}?{urlencode({name: text})}")
            assert page.evaluate(HARM) == [], (name, text)


def test_what_is_copied_as_curl_sends_the_same_message_from_a_shell(cmzon_emulator, api, visit):
    """Without what a page shows as pictures, and it says so."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("not run: curl (not installed)")
    page = visit(cmzon_emulator.base_url, permissions=["clipboard-read", "clipboard-write"])
    token = api.issue()["token"]
    environment = {"CMZON_API_TOKEN": token, "PATH": "/usr/bin:/bin"}
    for text in (text for text in SOME if as_shown(text) == text):
        request = api.send(text).headers["X-Request-Id"]
        page.goto(f"/dashboard?show={request}")
        page.locator("button[data-copy=curl]").click()
        expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
        command = page.evaluate("() => navigator.clipboard.readText()")
        assert "$CMZON_API_TOKEN" in command
        assert token not in command
        done = subprocess.run(
            ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        assert '"accepted"' in done.stdout, (command, done)
        messages = api.http.get("/_emulator/messages", params={"limit": 1000}).json()["data"]
        assert messages[-1]["text"] == text
