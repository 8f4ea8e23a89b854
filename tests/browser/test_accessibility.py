"""Every page for everybody: with a screen reader, by keyboard alone, in the dark, on a phone."""

import pytest

from browser.lived_in import live_in, pages
from cmzon_secrets.emulator import Emulator

NAMES = [name for name in pages("", "") if name not in ("conversation", "all messages")]
"""Those that have everything: what they leave out is on others too."""
MAIN_PAGES = ["messages", "settings", "rotation", "rehearse", "audit"]
SIDEWAYS = """() => {
  const page = document.scrollingElement;
  return page.scrollWidth <= page.clientWidth ? [] : [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > page.clientWidth + 1)
    .slice(0, 5).map((element) => element.outerHTML.slice(0, 120));
}"""
FOCUSED = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    name: element.localName, text: element.textContent.trim().slice(0, 40), href: element.href ?? "",
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
    shown: box.width > 0 && box.height > 0 && box.right > 0,
  };
}"""


@pytest.fixture(scope="module")
def lived_in():
    """The URL of an emulator in which a lot has happened, and its pages by name."""
    with Emulator() as emulator:
        yield emulator.base_url, live_in(emulator)


@pytest.fixture(scope="module")
def unused():
    """The URL of an emulator in which nothing has happened yet."""
    with Emulator() as emulator:
        yield emulator.base_url


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_on_any_page_in_light_and_dark(visit, axe, lived_in, name):
    base_url, paths = lived_in
    page = visit(base_url, paths[name])
    open_everything(page)
    assert axe(page) == []


@pytest.mark.parametrize("name", MAIN_PAGES)
def test_axe_finds_nothing_on_an_empty_page_on_a_phone(visit, axe, unused, name):
    page = visit(unused, pages("", "")[name], viewport={"width": 360, "height": 740})
    open_everything(page)
    assert axe(page) == []


def generated(page):
    page.get_by_label("Name", exact=True).fill("W" * 200)
    page.get_by_role("button", name="Generate New Token").click()
    page.get_by_role("heading", name="New token", level=1).wait_for()


def refused_token(page):
    page.get_by_label("IP allowlist").fill("W" * 200)
    page.get_by_role("button", name="Generate New Token").click()
    page.locator("[aria-invalid=true]").wait_for()


def refused_fault(page):
    page.get_by_label("Probability").fill("W" * 200)
    page.get_by_role("button", name="Set the fault").click()
    page.get_by_role("alert").wait_for()


def done(page):
    page.get_by_role("button", name="Set the limits").click()
    page.get_by_role("status").filter(has_text="The limits were changed").wait_for()


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("settings", generated),
        ("settings", refused_token),
        ("rehearse", refused_fault),
        ("rehearse", done),
    ],
)
def test_the_answer_to_a_form_is_as_good_as_any_page(visit, axe, lived_in, name, act):
    base_url, paths = lived_in
    page = visit(base_url, paths[name], viewport={"width": 320, "height": 740})
    act(page)
    page.wait_for_load_state()
    assert page.evaluate(SIDEWAYS) == []
    open_everything(page)
    assert page.evaluate(SIDEWAYS) == []
    assert axe(page) == []


def test_no_page_scrolls_sideways_on_a_phone(visit, lived_in):
    base_url, paths = lived_in
    page = visit(base_url)
    for name, path in paths.items():
        page.goto(path)
        for width in (390, 320):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate(SIDEWAYS) == [], (name, width)
        open_everything(page)
        assert page.evaluate(SIDEWAYS) == [], name


@pytest.mark.parametrize("name", MAIN_PAGES)
def test_by_keyboard_alone_everything_is_reached_and_its_focus_is_seen(visit, lived_in, name):
    base_url, paths = lived_in
    page = visit(base_url, paths[name])
    reached = walk(page)
    assert reached[0]["text"] == "Skip to the content"
    assert [element for element in reached if not (element["outlined"] and element["shown"])] == []
    pages_reached = {element["href"].removeprefix(base_url) for element in reached}
    assert {paths[name] for name in MAIN_PAGES} <= pages_reached


def test_the_first_key_can_skip_to_the_content(visit, lived_in):
    base_url, paths = lived_in
    page = visit(base_url)
    for name in MAIN_PAGES:
        page.goto(paths[name])
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.closest('main') !== null"), name


def test_a_slash_leads_to_the_search_but_is_a_character_where_one_types(visit, lived_in):
    base_url, paths = lived_in
    page = visit(base_url, paths["messages"])
    page.keyboard.press("/")
    search = page.get_by_role("searchbox").first
    assert search.evaluate("(field) => field === document.activeElement")
    assert search.input_value() == ""
    page.keyboard.press("/")
    assert search.input_value() == "/"


def test_by_keyboard_alone_a_token_is_made_and_revoked(visit, lived_in):
    base_url, paths = lived_in
    page = visit(base_url, paths["settings"])
    tab_to(page, "(element) => element.name === 'name'")
    page.keyboard.type("by keyboard")
    tab_to(page, "(element) => element.textContent === 'Generate New Token'")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="New token", level=1).wait_for()
    tab_to(page, "(element) => element.textContent.startsWith('tok_')")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="by keyboard", level=1).wait_for()
    tab_to(page, "(element) => element.textContent === 'Revoke…'")
    page.keyboard.press("Enter")
    tab_to(page, "(element) => element.textContent === 'Revoke'")
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="The token is revoked").wait_for()


def tab_to(page, wanted, most=60):
    """Press Tab until the focus is on what is wanted."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.locator(":focus").evaluate(wanted):
            return
    raise AssertionError(f"{most} times Tab did not lead to {wanted}")


def open_everything(page):
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")


def walk(page, most=80):
    """What Tab reaches from the beginning, up to the page's end."""
    reached = []
    for _ in range(most):
        page.keyboard.press("Tab")
        element = page.evaluate(FOCUSED)
        if element["name"] == "body":
            break
        reached.append(element)
    return reached
