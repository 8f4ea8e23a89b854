"""How pages lie in the window: what is in sight, what can be marked, and that nothing sticks out."""

import itertools

import pytest

from browser.callers import Caller
from browser.lived_in import live_in
from cmzon_secrets.emulator import Emulator

CONVERSATIONS = 100
WINDOW = {"width": 1280, "height": 800}
TEXT = "Your parcel is on its way and will be with you before noon."
HEIGHTS = "() => [document.scrollingElement.scrollHeight, innerHeight, Math.round(scrollY)]"
STICKS_OUT = """() => [...document.querySelectorAll(".card")].flatMap((card) => {
  const edge = card.getBoundingClientRect().right;
  return [...card.querySelectorAll("*:not(pre *)")]
    .filter((element) => element.getBoundingClientRect().right > edge)
    .map((element) => element.outerHTML.slice(0, 120));
})"""
CUT_WORDS = """() => {
  const texts = document.createTreeWalker(document.querySelector("table"), NodeFilter.SHOW_TEXT);
  const cut = [];
  while (texts.nextNode()) {
    for (const { 0: word, index } of texts.currentNode.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(texts.currentNode, index);
      range.setEnd(texts.currentNode, index + word.length);
      const lines = new Set(Array.from(range.getClientRects(), (box) => Math.round(box.top)));
      if (/^[\\w:.…]{1,24}$/.test(word) && lines.size > 1) cut.push(word);
    }
  }
  return cut;
}"""


@pytest.fixture(scope="module")
def busy():
    """The URL of an emulator that sent one text to many numbers."""
    with Emulator() as emulator:
        api = Caller(emulator.base_url, emulator.admin_token)
        token = api.issue()["token"]
        for n in range(CONVERSATIONS):
            api.send(TEXT, to=f"+120255501{n:02}", token=token)
        api.close()
        yield emulator.base_url


@pytest.mark.parametrize("script", [True, False], ids=["with the script", "without a script"])
def test_with_many_conversations_the_page_is_as_high_as_the_window_and_stays(visit, busy, script):
    page = visit(busy, viewport=WINDOW, java_script_enabled=script)
    assert page.evaluate(HEIGHTS) == [800, 800, 0]
    page.locator("#bubbles").get_by_role("link", name="accepted").nth(50).click()
    page.locator("#request").wait_for()
    assert page.evaluate(HEIGHTS) == [800, 800, 0]
    for part in ("header.bar", "form.filters", "#bubbles [aria-current]", "#details h2"):
        assert in_sight(page, part), part


def in_sight(page, selector):
    box = page.locator(selector).first.bounding_box()
    return box["y"] >= 0 and box["y"] + box["height"] <= WINDOW["height"]


def test_a_part_of_a_message_can_be_marked_with_the_mouse(visit, busy):
    page = visit(busy, viewport=WINDOW)
    text = page.locator("#bubbles").get_by_text(TEXT).last
    box = text.bounding_box()
    middle = box["y"] + 10
    page.mouse.move(box["x"] + 3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=5)
    page.mouse.up()
    marked = page.evaluate("() => getSelection().toString()")
    assert len(marked) > 5
    assert marked in TEXT
    assert "show=" not in page.url  # marking is not choosing


def test_a_click_on_the_text_of_a_message_chooses_it(visit, busy):
    page = visit(busy, viewport=WINDOW)
    page.locator("#bubbles").get_by_text(TEXT).last.click()
    page.locator("#request").wait_for()


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/audit", "/dashboard/tokens"])
def test_the_labels_of_filters_stand_in_a_line(visit, busy, path):
    page = visit(busy, path, viewport=WINDOW)
    labels = page.locator("form.filters > div label").evaluate_all(
        "(labels) => labels.map((label) => label.getBoundingClientRect().top)"
    )
    assert len(labels) > 1
    assert len(set(labels)) == 1


PHONE = {"width": 390, "height": 844}


def test_on_a_phone_the_labels_of_a_row_stand_in_a_line_too(visit, busy):
    page = visit(busy, "/dashboard/audit", viewport=PHONE)
    tops = page.locator("form.filters > div label").evaluate_all(
        "(labels) => labels.map((label) => label.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1] < tops[2] == tops[3]


@pytest.fixture(scope="module")
def rehearsing():
    """The URL of an emulator in which everything is in force that a banner tells of, and much happened at once."""
    with Emulator() as emulator:
        api = Caller(emulator.base_url, emulator.admin_token)
        token = api.issue("acme-0123456789abcdef")
        api.issue("billing")
        api.send(token=token["token"])
        api.call("DELETE", f"/v1/tokens/{token['id']}")
        api.send(token=token["token"])
        for status in (500, 502, 503, 504):
            api.control("faults", route="POST /v1/messages", status=status)
        api.control("limits", per_second=100)
        api.control("clock", advance=3600)
        api.close()
        yield emulator.base_url


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/audit"])
def test_on_a_phone_each_banner_is_a_line_that_leads_to_the_rest(visit, rehearsing, path):
    page = visit(rehearsing, path, viewport=PHONE)
    lines = page.locator("#banner > p").all()
    assert len(lines) == 3
    assert [line.bounding_box()["height"] < 40 for line in lines] == [True] * 3
    assert [line.get_by_role("link").is_visible() for line in lines] == [True] * 3
    assert "4 faults are in force." in lines[0].inner_text()


MARKS = """() => [...document.querySelectorAll(".timeline svg[id]")].map((row) =>
  [...row.querySelectorAll(".mark use")].map((use) => use.getBoundingClientRect())
    .filter((box) => box.width).map((box) => box.left + box.width / 2))"""


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_marks_of_one_moment_stand_side_by_side_on_every_screen(visit, rehearsing, width):
    page = visit(rehearsing, "/dashboard/rotation", viewport={"width": width, "height": 844})
    rows = page.evaluate(MARKS)
    assert max(len(row) for row in rows) == 6
    for row in rows:
        middles = sorted(row)
        assert all(right - left > 9 for left, right in itertools.pairwise(middles)), row


AS_WIDE_AS_IT_WANTS = """(select) => {
  const copy = select.cloneNode(true);
  copy.style.cssText = "width: auto; max-width: none; flex: none; align-self: start";
  document.body.append(copy);
  const { width } = copy.getBoundingClientRect();
  copy.remove();
  return width;
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_what_the_names_are_chosen_from_is_as_wide_as_what_is_chosen(visit, rehearsing, width):
    page = visit(rehearsing, "/dashboard/rotation", viewport={"width": width, "height": 844})
    chooser = page.get_by_label("Name", exact=True)
    wanted = chooser.evaluate(AS_WIDE_AS_IT_WANTS)
    assert chooser.bounding_box()["width"] >= wanted


def test_a_name_that_a_rotation_gave_is_whole_wherever_the_trail_has_it(visit, rehearsing):
    page = visit(rehearsing, "/dashboard/audit", viewport=WINDOW)
    names = page.locator("td bdi", has_text="acme-0123456789abcdef")
    heights = names.evaluate_all("(names) => names.map((name) => name.getClientRects().length)")
    assert set(heights) == {1}


@pytest.fixture(scope="module")
def lived_in():
    """The URL of an emulator in which a lot happened, sixty days ago."""
    with Emulator() as emulator:
        live_in(emulator)
        api = Caller(emulator.base_url, emulator.admin_token)
        api.control("clock", advance=60 * 86_400)
        api.issue("of today")
        api.close()
        yield emulator.base_url


def test_nothing_is_wider_than_its_card_and_no_word_is_cut(visit, lived_in):
    page = visit(lived_in)
    for path in ("/dashboard/tokens", "/dashboard/audit", "/dashboard/rehearse"):
        page.goto(path)
        for width in (1200, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(STICKS_OUT) == [], (path, width)
            assert not page.locator("table").count() or page.evaluate(CUT_WORDS) == [], (
                path,
                width,
            )
