"""Everything but following live works in a browser that runs no script."""

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect

from browser.callers import TO
from browser.lived_in import live_in


@pytest.fixture
def plain(cmzon_emulator, visit):
    """A function that opens a page in such a browser."""
    return lambda path: visit(cmzon_emulator.base_url, path, java_script_enabled=False)


def said(page):
    return page.get_by_role("status").filter(has_text=re.compile(".")).inner_text()


def test_a_token_is_made_read_and_revoked(plain, api):
    page = plain("/dashboard/tokens")
    page.get_by_label("Name", exact=True).fill("acme")
    page.get_by_label("Expires").select_option(label="in 60 days")
    page.get_by_label("IP allowlist").fill("127.0.0.1\n10.0.0.0/8")
    page.get_by_role("button", name="Generate New Token").click()
    value = page.locator("#value").inner_text()
    assert api.send(token=value).status_code == 200

    page.get_by_role("link", name=re.compile("^tok_")).click()
    expect(page.get_by_role("heading", name="acme", level=1)).to_be_visible()
    expect(page.locator("main")).to_contain_text("59 d 23 h")
    page.get_by_text("Revoke…").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    assert said(page) == "The token is revoked."
    assert api.send(token=value).status_code == 401


def test_the_bare_address_leads_to_the_messages_and_a_wrong_one_to_the_nearest(plain):
    page = plain("/")
    expect(page.get_by_role("heading", name="Messages", level=1)).to_be_visible()
    page.goto("/dashboard/")
    expect(page.get_by_role("heading", name="Messages", level=1)).to_be_visible()
    assert page.goto("/dashboard/rotaton").status == 404
    page.locator("main").get_by_role("link", name="Rotation").first.click()
    expect(page.get_by_role("heading", name="Rotation", level=1)).to_be_visible()


def test_a_form_that_is_refused_keeps_what_was_given_and_says_what_is_wrong(plain):
    page = plain("/dashboard/tokens")
    page.get_by_label("Name", exact=True).fill("acme")
    page.get_by_label("IP allowlist").fill("not an address")
    page.get_by_role("button", name="Generate New Token").click()
    wrong = page.get_by_label("IP allowlist")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_have_accessible_description(re.compile("not an address.* is neither"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("acme")
    wrong.fill("127.0.0.1")
    page.get_by_role("button", name="Generate New Token").click()
    expect(page.get_by_role("heading", name="New token", level=1)).to_be_visible()


def test_a_token_is_ended_at_once(plain, api):
    token = api.issue()
    page = plain(f"/dashboard/tokens/{token['id']}")
    page.get_by_text("Expire now…").click()
    page.get_by_role("button", name="Expire now", exact=True).click()
    assert said(page) == "The token's time is over."
    assert api.send(token=token["token"]).status_code == 401


def test_messages_are_found_and_opened(plain, api):
    for n in range(3):
        api.send(f"parcel {n}")
    api.send("something else", to="+4915112345678")
    page = plain("/dashboard")
    page.get_by_label("Text").fill("PARCEL")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#bubbles")).to_contain_text("parcel 2")
    expect(page.locator("#bubbles")).not_to_contain_text("something else")
    page.get_by_role("link", name=re.compile(re.escape(TO))).first.click()
    page.locator("#bubbles a", has_text="accepted").last.click()
    expect(page.locator("#request")).to_contain_text("parcel 2")
    expect(page.locator("#answer")).to_contain_text("HTTP/1.1 200")
    expect(page.locator("#curl")).to_contain_text("$CMZON_API_TOKEN")
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)


def test_faults_limits_and_the_clock_are_set_and_ended(plain, api):
    page = plain("/dashboard/rehearse")
    page.get_by_role("button", name="Three 500s").click()
    assert said(page) == "The fault was set."
    expect(page.locator("#banner")).to_contain_text("1 fault is in force")
    assert api.send().status_code == 500
    page.get_by_role("button", name="End all faults").click()
    assert said(page) == "All faults were ended."
    assert api.send().status_code == 200

    page.get_by_label("Messages a second").fill("7")
    page.get_by_role("button", name="Set the limits").click()
    assert api.http.get("/_emulator/limits").json()["per_second"] == 7

    page.get_by_label("Move it by").fill("5184000")
    page.get_by_role("button", name="Move the clock").click()
    assert api.http.get("/_emulator/clock").json()["shift"] == 5_184_000
    page.get_by_role("button", name="Back to real time").click()
    assert api.http.get("/_emulator/clock").json()["shift"] == 0


def test_a_fault_that_makes_no_sense_is_refused_beside_its_form(plain):
    page = plain("/dashboard/rehearse")
    page.get_by_label("Probability").fill("2")
    page.get_by_label("How often").fill("3")
    page.get_by_role("button", name="Set the fault").click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile("Probability — .*from 0 to 1"))
    expect(page.get_by_label("Probability")).to_have_value("2")
    expect(page.get_by_label("How often")).to_have_value("3")


def test_a_snapshot_brings_back_what_a_reset_took(plain, api):
    api.send("before")
    page = plain("/dashboard/rehearse")
    page.get_by_label("Name", exact=False).last.fill("monday")
    page.get_by_role("button", name="Take a snapshot").click()
    assert said(page) == "The snapshot was taken."
    page.get_by_text("Reset the account…").click()
    page.get_by_role("button", name="Reset the account", exact=True).click()
    assert said(page) == "The account was reset."
    assert api.messages() == 0
    page.get_by_text("Restore monday…").click()
    page.get_by_role("button", name="Restore monday").click()
    assert said(page) == "The snapshot was restored."
    assert api.messages() == 1


def test_the_audit_trail_is_narrowed_down_and_downloaded(plain, api):
    api.issue("acme")
    api.issue("other")
    page = plain("/dashboard/audit")
    page.get_by_label("Token").first.fill("acme")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("table")).to_contain_text("acme")
    expect(page.get_by_role("table")).not_to_contain_text("other")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("as JSONL")).click()
    assert download.value.suggested_filename == "cmzon-audit.jsonl"
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 1
    assert '"acme"' in lines[0]


ELSEWHERE = "a[href]:not([href^='#'])"


def test_every_link_of_every_page_leads_somewhere(cmzon_emulator, api, plain):
    paths = set(live_in(cmzon_emulator).values())
    page = plain("/dashboard")
    links = {}
    for path in sorted(paths):
        page.goto(path)
        for link in page.locator(ELSEWHERE).evaluate_all("(all) => all.map((a) => a.href)"):
            links.setdefault(kind(link), link)
    answers = {link: api.http.get(link).status_code for link in links.values()}
    assert {link: status for link, status in answers.items() if status != 200} == {}
    assert len(answers) > 20


def kind(link):
    """Links of one kind differ in the values of their parameters only."""
    url = urlsplit(link)
    return url.path, frozenset(name for name, _ in parse_qsl(url.query, keep_blank_values=True))
