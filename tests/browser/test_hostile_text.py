"""Whatever somebody wrote is shown as it was written, and does nothing."""

import shutil
import subprocess
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from browser.hostile import HARM, POLYGLOT, READ, SHORT, TEXTS, as_on_screen, as_shown

CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"
TOGETHER = "\n".join([*SHORT, POLYGLOT])
"""All but the long ones, in one text."""
HEADERS = [t for t in SHORT if t.isascii() and t.isprintable() and t == t.strip()]
"""What can stand in a header at all."""
IN_A_BUBBLE = 1_000
"""Characters; the details have the rest."""


def text_of(page, selector="main"):
    """The text of a part of the page, shown or not."""
    return page.locator(selector).evaluate("(element) => element.textContent")


def missing(page, texts, selector="main", as_shown=as_shown):
    shown = text_of(page, selector)
    return [text for text in texts if as_shown(text) not in shown]


def hrefs(page, selector):
    return page.locator(selector).evaluate_all("(links) => links.map((link) => link.href)")


def read(visit, page, paths):
    """The texts of pages, once it is proved that nothing harms them."""
    visit.expected = r"status of 4\d\d"
    pages = page.evaluate(READ, paths)
    assert {path: each["harm"] for path, each in pages.items() if each["harm"]} == {}
    return {path: each["text"] for path, each in pages.items()}


def test_texts_of_messages_that_were_there_before_the_page(cmzon_emulator, api, visit):
    for text in TEXTS:
        assert api.send(text).status_code == 200
    page = visit(cmzon_emulator.base_url, CONVERSATION)
    assert missing(page, [text[:IN_A_BUBBLE] for text in TEXTS], as_shown=as_on_screen) == []
    assert page.evaluate(HARM) == []


def test_texts_of_messages_that_arrive_while_the_page_is_open(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url, CONVERSATION)
    expect(page.locator("#live")).to_have_text("live")
    for text in TEXTS:
        api.send(text)
    api.send("the last of them")
    expect(page.locator("#bubbles").get_by_text("the last of them")).to_be_visible()
    assert missing(page, [text[:IN_A_BUBBLE] for text in TEXTS], as_shown=as_on_screen) == []
    assert page.evaluate(HARM) == []


def test_the_details_of_every_message_show_what_was_sent(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url)
    texts = {}
    for text in [*TEXTS, POLYGLOT]:
        texts[f"{CONVERSATION}&show={api.send(text).headers['X-Request-Id']}"] = text
    pages = read(visit, page, list(texts))
    assert [text for path, text in texts.items() if as_on_screen(text) not in pages[path]] == []
    page.goto(next(iter(texts)))
    expect(page.locator("#request")).to_be_visible()
    assert page.evaluate(HARM) == []


def test_numbers_that_are_none(cmzon_emulator, api, visit):
    for text in TEXTS:
        assert api.send("to whom?", to=text).status_code == 400
    page = visit(cmzon_emulator.base_url)
    assert missing(page, [text[:64] for text in TEXTS]) == []
    assert page.evaluate(HARM) == []
    conversations = hrefs(page, "#conversations a")
    assert len(conversations) > len(TEXTS) // 2
    for path, text in read(visit, page, conversations[::3]).items():
        assert "to whom?" in text, path
    page.goto(conversations[-1])
    assert page.evaluate(HARM) == []
    expect(page.locator("#bubbles").get_by_text("to whom?").first).to_be_visible()


def test_keys_and_other_headers(cmzon_emulator, api, visit):
    noted = {f"X-Note-{n}": text for n, text in enumerate(HEADERS)}
    answer = api.send(Idempotency_Key=HEADERS[0], User_Agent=POLYGLOT, **noted)
    page = visit(cmzon_emulator.base_url, f"/dashboard?show={answer.headers['X-Request-Id']}")
    assert missing(page, [POLYGLOT, *HEADERS], "#request") == []
    assert text_of(page, "#details").count(HEADERS[0]) >= 4  # as a fact, twice as sent, as curl
    assert page.evaluate(HARM) == []


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
    names = {f"/dashboard/tokens/{each}": name for each, name in zip(ids, SHORT, strict=True)}
    pages = read(visit, page, list(names))
    assert [name for path, name in names.items() if as_shown(name) not in pages[path]] == []


def test_what_was_typed_into_the_form_comes_back_as_it_was(cmzon_emulator, visit):
    page = visit(cmzon_emulator.base_url, "/dashboard/tokens")
    texts = [text for text in TOGETHER.split("\n") if text.isprintable()]
    page.get_by_label("Name", exact=True).fill(" ".join(texts))
    page.get_by_label("IP allowlist").fill("\n".join([*texts, "not an address"]))
    page.get_by_role("button", name="Generate New Token").click()
    expect(page.locator("[aria-invalid=true]").first).to_be_visible()
    assert page.get_by_label("Name", exact=True).input_value() == " ".join(texts).strip()
    typed = "\n".join([*texts, "not an address"]).strip()
    assert page.get_by_label("IP allowlist").input_value() == typed
    assert page.evaluate(HARM) == []


@pytest.mark.parametrize(
    "path", ["/dashboard", "/dashboard/tokens", "/dashboard/rotation", "/dashboard/audit"]
)
def test_every_parameter_of_every_page(cmzon_emulator, api, visit, path):
    api.send("something to look for")
    page = visit(cmzon_emulator.base_url, path)
    fields = page.locator("form[method=get] [name], form:not([method]) [name]").evaluate_all(
        "(fields) => fields.map((field) => field.name)"
    )
    names = sorted({*fields, "to", "show", "limit", "done", "window", "rows", "name", "all"})
    texts = (POLYGLOT, *SHORT[::8])
    asked = [f"{path}?{urlencode({name: text})}" for name in names for text in texts]
    assert len(read(visit, page, asked)) == len(asked)
    for text in texts[:2]:
        page.goto(f"{path}?{urlencode(dict.fromkeys(names, text))}")
        assert page.evaluate(HARM) == [], text


def test_what_is_copied_as_curl_sends_the_same_message_from_a_shell(cmzon_emulator, api, visit):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("not run: curl (not installed)")
    text = TOGETHER
    token = api.issue()["token"]
    request = api.send(text).headers["X-Request-Id"]
    page = visit(
        cmzon_emulator.base_url,
        f"/dashboard?show={request}",
        permissions=["clipboard-read", "clipboard-write"],
    )
    page.locator("button[data-copy=curl]").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    command = page.evaluate("() => navigator.clipboard.readText()")
    assert "$CMZON_API_TOKEN" in command
    assert token not in command
    done = subprocess.run(
        ["sh", "-c", command],
        env={"CMZON_API_TOKEN": token, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"accepted"' in done.stdout, (command, done)
    messages = api.http.get("/_emulator/messages", params={"limit": 1000}).json()["data"]
    assert [message["text"] for message in messages] == [text, text]
