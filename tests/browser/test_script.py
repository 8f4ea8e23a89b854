"""What the script does that is not seen at once: how often it looks, what it keeps, when it gives up.

Where time matters the page's own is a clock that the test moves; its stream stays in real time.
"""

import re

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from cmzon_secrets.emulator.web.templates import duration
from servers.chromium import HIDE, wait_until

STREAM = "**/dashboard/events*"
CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"


@pytest.fixture
def timed(cmzon_emulator, visit):
    """A page, still empty, whose clock stands still."""
    page = visit(cmzon_emulator.base_url, "about:blank")
    page.clock.install(time=0)
    page.clock.pause_at(1)
    return page


# --- counting down -------------------------------------------------------------------------

DAY = 86_400
WHOLE = [0, 1, 59, 60, 61, 3_599, 3_600, 3_661, DAY - 1, DAY, DAY + 59, 60 * DAY - 1, 400 * DAY]
LEFT = [seconds + 0.5 for seconds in WHOLE]
"""Seconds; half of one more, so that no rounding decides."""
PUT_OFF = """(seconds) => {
  const time = document.querySelector("time[data-until]");
  time.dataset.until = Number(document.body.dataset.now) + seconds;
}"""


def test_a_countdown_says_after_every_second_what_the_server_would_say(api, timed):
    token = api.issue(expires_in=DAY)
    timed.goto(f"/dashboard/tokens/{token['id']}")
    countdown = timed.locator("time[data-until]").first
    shown, wanted = [], []
    for second, left in enumerate([*LEFT, *(-each for each in LEFT)], start=1):
        timed.evaluate(PUT_OFF, second + left)
        timed.clock.run_for(1000)
        shown.append(countdown.inner_text())
        wanted.append(f"in {duration(left)}" if left > 0 else f"{duration(-left)} ago")
    assert shown == wanted


# --- looking again -------------------------------------------------------------------------

EVENTS = "text/event-stream"
TWICE = "retry: 20\n\n" + 2 * "event: changed\ndata: messages tokens rehearsal\n\n"
"""A stream that says two times that something changed, ends, and is asked for again at once."""


class Looks:
    """The page's looks at itself, each of which has to be let go."""

    def __init__(self, page):
        self._page, self._held = page, []
        page.route(STREAM, lambda route: route.fulfill(body=TWICE, content_type=EVENTS))
        page.route("**/dashboard/audit*", self._hold)

    def _hold(self, route):
        if route.request.resource_type == "xhr":
            self._held.append(route)
        else:
            route.continue_()

    def count(self):
        return len(self._held)

    def wait_for(self, count):
        wait_until(self._page, lambda: self.count() == count)

    def let_go(self, after, until):
        """Answer the one that is waiting, which took some milliseconds; ``until`` then shows it."""
        self._page.clock.run_for(after)
        self._held[-1].continue_()
        expect(until).to_be_visible()


def fetch(page):
    """Have the page fetch something: whatever it asked for before has been asked for then."""
    assert page.evaluate("() => fetch('/dashboard/icon.svg').then((a) => a.status)") == 200


@pytest.fixture
def looks(api, timed):
    looks = Looks(timed)
    timed.goto("/dashboard/audit")
    looks.wait_for(1)
    expect(timed.locator("#live")).to_have_text("reconnecting…")  # all was said
    yield looks
    timed.unroute_all(behavior="ignoreErrors")


def test_between_two_looks_the_page_rests_three_times_what_one_took(api, timed, looks):
    api.issue("shown by the first look")
    looks.let_go(400, timed.get_by_text("shown by the first look").first)
    timed.clock.run_for(1_150)
    fetch(timed)
    assert looks.count() == 1
    timed.clock.run_for(50)
    looks.wait_for(2)


def test_but_never_longer_than_two_seconds(api, timed, looks):
    api.issue("shown by the first look")
    looks.let_go(10_000, timed.get_by_text("shown by the first look").first)
    timed.clock.run_for(2_000)
    looks.wait_for(2)


def test_a_look_that_fails_is_not_the_last(cmzon_emulator, api, visit):
    visit.expected = "script: .*broken"
    page = visit(cmzon_emulator.base_url, CONVERSATION)
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(BREAK_ONCE)
    api.send("while it fails")
    wait_until(page, lambda: page.evaluate("() => window.broken === true"))
    api.send("afterwards")
    expect(page.locator("#inbox").get_by_text("afterwards").first).to_be_visible()


BREAK_ONCE = """() => {
  const right = Node.prototype.isEqualNode;
  Node.prototype.isEqualNode = () => {
    Node.prototype.isEqualNode = right;
    window.broken = true;
    throw new Error("broken");
  };
}"""


# --- following -----------------------------------------------------------------------------


def test_a_stream_that_was_refused_is_asked_for_again_after_two_seconds(api, timed, visit):
    visit.expected = r"status of 503"
    timed.route(STREAM, lambda route: route.fulfill(status=503), times=1)
    timed.goto(CONVERSATION)
    live = timed.locator("#live")
    expect(live).to_have_text("reconnecting…")
    timed.clock.run_for(1_900)
    fetch(timed)
    expect(live).to_have_text("reconnecting…")
    timed.clock.run_for(100)
    expect(live).to_have_text("live")
    api.send("it follows again")
    expect(timed.locator("#inbox").get_by_text("it follows again").first).to_be_visible()


def test_a_hidden_page_says_in_its_title_how_many_messages_came(api, timed):
    timed.goto(CONVERSATION)
    expect(timed.locator("#live")).to_have_text("live")
    timed.evaluate(HIDE, True)
    for n in range(3):
        api.send(f"unseen {n}")
    timed.clock.run_for(5_000)
    expect(timed).to_have_title(re.compile(r"^\(3\) Messages"))
    timed.evaluate(HIDE, False)
    expect(timed.locator("#inbox").get_by_text("unseen 2").first).to_be_visible()
    expect(timed).to_have_title(re.compile("^Messages"))


def test_what_was_done_is_said_once_and_not_again_where_the_page_is_loaded_anew(
    cmzon_emulator, visit
):
    page = visit(cmzon_emulator.base_url, "/dashboard/rehearse")
    page.get_by_role("button", name="Three 500s").click()
    notice = page.get_by_role("status").filter(has_text="The fault was set")
    expect(notice).to_be_visible()
    page.wait_for_url("**/dashboard/rehearse")
    page.reload()
    expect(page.locator("#banner")).to_contain_text("1 fault is in force")
    expect(notice).to_have_count(0)


# --- a token that is gone ------------------------------------------------------------------


def test_the_page_of_a_token_that_a_reset_forgot_says_so_until_a_snapshot_brings_it_back(
    cmzon_emulator, api, visit
):
    visit.expected = r"status of 404"
    token = api.issue()
    api.http.post("/_emulator/snapshots", json={"name": "before"}).raise_for_status()
    page = visit(cmzon_emulator.base_url, f"/dashboard/tokens/{token['id']}")
    expect(page.locator("#live")).to_have_text("live")
    api.control("reset")
    expect(page.get_by_role("heading", name="Unknown token", level=1)).to_be_visible()
    expect(page.get_by_text("Revoke…")).to_have_count(0)
    expect(page).to_have_title(re.compile("^Unknown token"))
    api.control("snapshots/before/restore")
    expect(page.get_by_role("heading", name="acme", level=1)).to_be_visible()
    expect(page).to_have_title(re.compile("^acme"))
    page.get_by_text("Revoke…").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="The token is revoked")).to_be_visible()


# --- what the reader did -------------------------------------------------------------------


def test_the_focus_stays_on_what_moves(cmzon_emulator, api, visit):
    for number in ("+12025550001", "+12025550002", "+12025550003"):
        api.send("first", to=number)
    page = visit(cmzon_emulator.base_url)
    expect(page.locator("#live")).to_have_text("live")
    oldest = page.locator("#conversations").get_by_role("link", name="+12025550001")
    oldest.focus()
    api.send("it comes to the top", to="+12025550001")
    expect(page.locator("#conversations li").nth(1)).to_contain_text("it comes to the top")
    expect(oldest).to_be_focused()


def test_escape_closes_the_question_that_lies_over_the_rows_and_leads_back_to_it(
    cmzon_emulator, api, visit
):
    first, second = (api.issue(name)["id"] for name in ("below", "above"))
    page = visit(
        cmzon_emulator.base_url, "/dashboard/tokens", viewport={"width": 1280, "height": 900}
    )
    question = page.locator(f"#revoke-{second}")
    question.get_by_text("Revoke…").click()
    sure = question.get_by_role("button", name="Revoke", exact=True)
    for focused in (question.locator("summary").first, sure):
        expect(sure).to_be_visible()
        focused.focus()
        page.keyboard.press("Escape")
        expect(sure).to_be_hidden()
        expect(question.locator("summary").first).to_be_focused()
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator(f"#revoke-{first} > summary").click()  # nothing lies over it any more
    expect(page.locator(f"#revoke-{first}")).to_have_attribute("open", "")


def test_a_list_is_found_as_it_was_left_by_a_link_in_it(cmzon_emulator, api, visit):
    for n in range(60):
        api.send("hello", to=f"+120255501{n:02}")
    page = visit(cmzon_emulator.base_url)
    chosen = page.locator("#conversations").get_by_role("link", name="+12025550110")
    chosen.scroll_into_view_if_needed()
    left_at = page.locator("#conversations").evaluate("(list) => list.scrollTop")
    assert left_at > 500
    chosen.click()
    page.wait_for_url("**to=*")
    expect(chosen).to_be_in_viewport()
    assert page.locator("#conversations").evaluate("(list) => list.scrollTop") == left_at
