"""Pages that stay open: what happens elsewhere appears in them, and what is typed in them stays."""

from playwright.sync_api import expect

from browser.callers import TO
from servers.chromium import HIDE, wait_until

CONVERSATION = f"/dashboard?to=%2B{TO[1:]}"


def is_live(page):
    expect(page.locator("#live")).to_have_text("live")
    return page


def streams(emulator):
    """How many follow what happens."""
    return len(emulator._running.server._account.changes._watchers)


def test_what_is_done_in_one_tab_appears_in_the_other(cmzon_emulator, api, visit):
    one = is_live(visit(cmzon_emulator.base_url, "/dashboard/rehearse"))
    other = one.context.new_page()
    other.goto("/dashboard")
    is_live(other)
    one.get_by_role("button", name="Three 500s").click()
    expect(other.locator("#banner")).to_contain_text("1 fault is in force")
    one.get_by_role("button", name="End all faults").click()
    expect(other.locator("#banner")).not_to_contain_text("in force")
    api.send("from a program")
    expect(other.get_by_text("from a program").first).to_be_visible()


def test_a_fault_that_is_used_up_leaves_the_banner_of_every_open_page(cmzon_emulator, api, visit):
    api.control("faults", route="POST /v1/messages", status=500, count=2)
    first = is_live(visit(cmzon_emulator.base_url))
    pages = [first]
    for path in ("/dashboard/tokens", "/dashboard/rotation", "/dashboard/audit"):
        pages.append(first.context.new_page())
        pages[-1].goto(path)
    for page in map(is_live, pages):
        expect(page.locator("#banner")).to_contain_text("1 fault is in force")
    assert [api.send().status_code for _ in range(3)] == [500, 500, 200]
    for page in pages:
        expect(page.locator("#banner")).not_to_contain_text("fault")


TYPED = "(e) => [e.value, e.selectionStart, e.selectionEnd, e === document.activeElement]"


def half_a_word(page, label):
    """The field in which it is being typed, two letters of it selected."""
    field = page.locator("main").get_by_label(label).first
    field.fill("")
    page.keyboard.type("half a word")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    return field


def test_what_is_being_typed_stays_while_messages_arrive(cmzon_emulator, api, visit):
    first = visit(cmzon_emulator.base_url)
    labels = {
        "/dashboard": "Text",
        "/dashboard/tokens": "Name",
        "/dashboard/rehearse": "Name",
        "/dashboard/audit": "Address",
    }
    pages = {path: first.context.new_page() for path in labels}
    for path, page in pages.items():
        page.goto(path)
    fields = [half_a_word(is_live(page), labels[path]) for path, page in pages.items()]
    token = api.issue()["token"]
    for n in range(50):
        api.send(f"number {n}", token=token)
    api.control("faults", route="POST /v1/messages", status=500)
    for page in pages.values():
        expect(page.locator("#banner")).to_contain_text("1 fault is in force")  # it looked again
    assert [field.evaluate(TYPED) for field in fields] == [["half a word", 9, 11, True]] * 4


def test_an_opened_detail_stays_open_while_the_page_follows(cmzon_emulator, api, visit):
    token = api.issue()
    page = is_live(visit(cmzon_emulator.base_url, "/dashboard/tokens"))
    row = page.locator(f"[id='{token['id']}']")
    row.get_by_text("Revoke…").click()
    button = row.get_by_role("button", name="Revoke", exact=True)
    button.focus()
    for n in range(50):
        api.send(f"number {n}", token=token["token"])
    expect(row).to_contain_text("50")
    expect(button).to_be_visible()
    expect(button).to_be_focused()


def test_the_conversation_stays_where_it_is_read_and_follows_at_its_end(cmzon_emulator, api, visit):
    for n in range(60):
        api.send(f"number {n}")
    page = is_live(visit(cmzon_emulator.base_url, CONVERSATION))
    bubbles = page.locator("#bubbles")
    expect(bubbles.get_by_text("number 59")).to_be_in_viewport()
    api.send("one more at the end")
    expect(bubbles.get_by_text("one more at the end")).to_be_in_viewport()
    read = bubbles.get_by_text("number 20", exact=True)
    read.scroll_into_view_if_needed()
    for n in range(10):
        api.send(f"not to be followed {n}")
    expect(bubbles.get_by_text("not to be followed 9")).to_be_attached()
    expect(read).to_be_in_viewport()
    expect(bubbles.get_by_text("not to be followed 9")).not_to_be_in_viewport()


def test_a_hidden_page_lets_its_stream_go_and_catches_up_when_it_is_shown(
    cmzon_emulator, api, visit
):
    page = is_live(visit(cmzon_emulator.base_url, CONVERSATION))
    assert streams(cmzon_emulator) == 1
    page.evaluate(HIDE, True)
    wait_until(page, lambda: streams(cmzon_emulator) == 0)
    api.send("while nobody looked")
    page.evaluate(HIDE, False)
    expect(page.locator("#bubbles").get_by_text("while nobody looked")).to_be_visible()
    assert streams(cmzon_emulator) == 1


def test_the_title_of_a_hidden_page_counts_what_came_since_it_was_looked_at(
    cmzon_emulator, api, visit
):
    page = visit(cmzon_emulator.base_url, "about:blank")
    page.clock.install()
    page.goto(CONVERSATION)
    is_live(page).evaluate(HIDE, True)
    api.send("here")
    api.send("elsewhere", to="+12025550199")
    page.clock.fast_forward(5_000)
    expect(page).to_have_title("(2) Messages · CMzon emulator")
    page.evaluate(HIDE, False)
    expect(page).to_have_title("Messages · CMzon emulator")
    expect(page.locator("#bubbles").get_by_text("here")).to_be_visible()
    page.evaluate(HIDE, True)
    page.clock.fast_forward(5_000)
    api.send("one more")
    page.clock.fast_forward(5_000)
    expect(page).to_have_title("(1) Messages · CMzon emulator")


def test_what_happens_between_the_page_and_its_stream_is_not_missed(cmzon_emulator, api, visit):
    page = visit(cmzon_emulator.base_url)
    page.route("**/dashboard/events*", lambda route: (api.send("in between"), route.continue_()))
    page.goto(CONVERSATION)
    expect(page.locator("#bubbles").get_by_text("in between")).to_be_visible()


def test_more_tabs_than_connections_follow_and_hold_up_nobody(cmzon_emulator, api, visit):
    """A browser has six connections to one address; those in front of the reader need theirs."""
    first = is_live(visit(cmzon_emulator.base_url, CONVERSATION))
    for _ in range(7):
        tab = first.context.new_page()
        tab.goto("/dashboard/audit")
        is_live(tab)
        tab.evaluate(HIDE, True)
    api.send("to the one that is shown")
    expect(first.locator("#bubbles").get_by_text("to the one that is shown")).to_be_visible()
    wait_until(first, lambda: streams(cmzon_emulator) == 1)


def test_pages_that_are_closed_leave_nothing_behind(cmzon_emulator, visit):
    page = is_live(visit(cmzon_emulator.base_url))
    for _ in range(5):
        page.reload()
        is_live(page)
    wait_until(page, lambda: streams(cmzon_emulator) == 1)
    page.goto("about:blank")
    wait_until(page, lambda: streams(cmzon_emulator) == 0)
