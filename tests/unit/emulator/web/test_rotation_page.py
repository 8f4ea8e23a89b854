"""Rotation: the page tells of every token what happened to it, live or long ago, one or many."""

import re
from html import unescape

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.account.record import FAILED_SENDS
from cmzon_secrets.emulator.account.tokens import TokenWish, deriving
from cmzon_secrets.emulator.storage.journal import Journal
from cmzon_secrets.emulator.web.rotation import Picture

PAGE = "/dashboard/rotation"
HOSTILE = "\"><script>alert(1)</script>\u202e{{ 7*7 }}'\x00"


@pytest.fixture
def page(api):
    """The page's HTML for a query."""

    def fetched(status: int = 200, **query: str) -> str:
        answer = api.http.get(PAGE, params=query)
        assert answer.status_code == status, answer.text[-2000:]
        return answer.text

    return fetched


def drawn(html: str) -> list[str]:
    """The ids of the tokens drawn, from above."""
    return re.findall(r'id="drawn-(tok_\w+)"', html)


def row(html: str, token_id: str) -> str:
    """The drawing of one token."""
    return re.search(
        rf'id="drawn-{token_id}".*?</text>\s*<line.*?(?=id="drawn-|</section>)', html, re.DOTALL
    )[0]


def kinds(html: str, token_id: str, what: str) -> list[str]:
    """The kinds of a token's bars (``life``) or marks (``mark``)."""
    return re.findall(rf'class="{what} ([\w-]+)"', row(html, token_id))


def told(html: str, token_id: str) -> list[str]:
    """The cells of a token in the table."""
    body = re.search(rf'id="told-{token_id}">(.*?)</tr>', html, re.DOTALL)[1]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", body, re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in cells]


def figure(html: str, label: str) -> tuple[str, str]:
    """A headline figure and what is said below it."""
    found = re.search(
        rf"<dt>{label}</dt><dd[^>]*>(.*?)</dd>\s*<dd[^>]*>(.*?)</dd>", html, re.DOTALL
    )
    return tuple(" ".join(re.sub(r"<[^>]+>", "", part).split()) for part in found.groups())


class TestTheStoryOfARotation:
    def test_before_the_first_token_it_says_where_one_comes_from(self, page):
        html = page()
        assert "No token yet." in html
        assert figure(html, "Live tokens")[0] == "0"
        assert figure(html, "Messages a second") == ("0.0", "none in this stretch")

    def test_every_moment_is_drawn_and_told_and_the_newest_is_on_top(self, api, page):
        old = api.issue()
        assert api.call("GET", "/v1/tokens/self", old["token"]).status_code == 200
        api.send(old["token"])
        new = api.issue()
        api.send(new["token"])
        api.revoke(old["id"])
        assert api.send(old["token"]).status_code == 401
        html = page()
        assert drawn(html) == [new["id"], old["id"]]
        assert kinds(html, old["id"], "life") == ["waiting", "serving", "grace"]
        assert kinds(html, old["id"], "mark") == [
            *("issued", "verified", "first-used", "promoted", "last-used", "revoked", "refused"),
        ]
        assert kinds(html, new["id"], "life") == ["waiting", "serving"]
        _, stage, *moments, messages, refused = told(html, old["id"])
        assert (stage, messages, refused) == ("revoked", "1", "1")
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d", moment) for moment in moments)
        assert told(html, new["id"])[1] == "current"
        assert "carries the traffic since" in html

    def test_the_columns_show_which_token_carried_how_much(self, api, page):
        busy, idle = api.issue(), api.issue()
        for _ in range(3):
            api.send(busy["token"])
        html = page()
        assert '<path d="M' in row(html, busy["id"])
        assert '<path d=""' in row(html, idle["id"])
        assert kinds(html, idle["id"], "life") == ["waiting"]
        assert figure(html, "Failed sends") == ("0", "of 3 in this stretch")

    def test_failed_sends_are_counted_by_status_and_by_what_is_looked_at(self, api, page):
        ours, other = api.issue(), api.issue(name="other")
        api.fault(status=503, token=ours["id"], count=2)
        for token in (ours, ours, other):
            api.send(token["token"])
        assert api.send("cmz_unknown").status_code == 401
        assert figure(page(), "Failed sends") == ("3", "2 × 503, 1 × 401")
        assert figure(page(name="acme"), "Failed sends") == ("2", "2 × 503")
        assert figure(page(name="other"), "Failed sends")[0] == "0"

    def test_a_send_that_failed_before_the_stretch_or_is_still_to_come_does_not_count(
        self, api, page
    ):
        assert api.send("cmz_unknown").status_code == 401
        assert figure(page(window="60"), "Failed sends")[0] == "1"
        for seconds in (120, -300):
            api.control("clock", advance=seconds)
            assert figure(page(window="60"), "Failed sends")[0] == "0"

    def test_one_that_is_in_use_again_is_called_current_and_drawn_as_that(self, api, page):
        old, new = api.issue(), api.issue()
        for token in (old, new):
            api.send(token["token"])
        api.revoke(new["id"])
        html = page()
        assert told(html, old["id"])[1] == "current"
        assert kinds(html, old["id"], "life")[-1] == "serving"
        assert "<title>current from " in row(html, old["id"]).rpartition('class="life')[2]
        killed = told(html, new["id"])[7]
        assert re.search(rf"carries the traffic since <time[^>]*>{killed}</time>", html)

    def test_after_a_rollback_the_one_that_the_traffic_came_back_to_is_current(self, api, page):
        old, new = api.issue(), api.issue()
        for token in (old, new, old, old, old):
            api.send(token["token"])
        html = page()
        assert [told(html, token["id"])[1] for token in (old, new)] == ["current", "previous"]
        assert kinds(html, old["id"], "life") == ["waiting", "serving", "grace", "serving"]
        assert kinds(html, new["id"], "life") == ["waiting", "serving", "grace"]
        assert f"<code>{old['id'][:12]}</code> carries the traffic since" in html
        assert html.count('class="handover"') == 2

    def test_once_the_clock_is_back_from_a_rehearsal_the_next_one_to_send_is_current(
        self, api, page
    ):
        first, rehearsed, newest = api.issue(), api.issue(), api.issue()
        for token, seconds in ((first, 86400), (rehearsed, -86400), (newest, 0)):
            api.send(token["token"])
            api.control("clock", advance=seconds)
        html = page()
        assert [told(html, token["id"])[1] for token in (first, rehearsed, newest)] == [
            *("previous", "previous", "current")
        ]
        since = re.search(r"carries the traffic since <time[^>]*>([^<]*)</time>", html)[1]
        assert since == told(html, newest["id"])[5]

    def test_the_key_calls_a_bar_what_its_row_does(self, page):
        key = page().partition("How to read it")[2]
        words = re.findall(r"</svg> (\w+): [^<]+</li>", key)
        assert words == ["pending", "current", "previous"]
        assert "previous: in grace" in key

    def test_the_scale_of_the_columns_is_told_where_there_are_any(self, api, page):
        token = api.issue()
        assert "a full one is" not in page()
        api.send(token["token"])
        assert "a full one is 1.0." in page()

    def test_no_token_is_in_the_page_and_no_way_to_run_anything(self, api, page):
        issued = api.issue()
        api.send(issued["token"])
        html = page()
        assert issued["token"] not in html
        assert api.emulator.admin_token not in html
        assert "style=" not in html
        assert re.findall(r"\son\w+=", html) == []


class TestChoosing:
    def test_the_admin_token_is_shown_only_when_asked_for(self, api, page):
        api.issue()
        assert 'aria-label="The tokens named emulator-admin ' not in page()
        assert 'aria-label="The tokens named emulator-admin ' in page(name="emulator-admin")

    def test_a_name_is_shown_alone_and_an_unknown_one_is_told(self, api, page):
        ours, other = api.issue(), api.issue(name="other")
        assert drawn(page()) == [other["id"], ours["id"]]
        assert drawn(page(name="acme")) == [ours["id"]]
        assert "No token is named" in page(name="nobody")

    def test_the_token_a_rotation_began_with_is_drawn_with_those_that_it_issued(self, api, page):
        pasted = api.issue(name="acme")
        rotated = api.issue(name="acme-0123456789abcdef")
        for token in (pasted, rotated):
            api.send(token["token"])
        for html in (page(), page(name="acme"), page(name="acme-0123456789abcdef")):
            assert drawn(html) == [rotated["id"], pasted["id"]]
            assert kinds(html, pasted["id"], "life") == ["waiting", "serving", "grace"]
        assert told(html, pasted["id"])[1] == "previous"

    def test_a_hostile_name_is_shown_literally(self, api, page):
        api.issue(name=HOSTILE)
        for html in (page(), page(name=HOSTILE), page(name=HOSTILE + "!")):
            assert "<script>alert" not in html
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
            assert "\x00" not in html
            assert "{{ 7*7 }}" in html

    def test_a_name_with_a_control_character_is_found_as_the_form_sends_it(self, api, page):
        issued = api.issue(name="a\x00b")
        api.issue(name="other")
        assert '<option value="a\u2400b">' in page()
        assert drawn(page(name="a\u2400b")) == drawn(page(name="a\x00b")) == [issued["id"]]

    @pytest.mark.parametrize("window", ["fit", "60", "300", "900", "all"])
    def test_every_stretch_of_time_draws_a_fresh_token(self, api, page, window):
        issued = api.issue()
        assert kinds(page(window=window), issued["id"], "mark") == ["issued"]

    def test_an_unknown_stretch_is_refused_by_name(self, page):
        html = unescape(page(status=400, window="<b>"))
        assert "window — unknown; known: fit, 60, 300, 900, all" in html

    def test_of_many_tokens_the_newest_twelve_are_drawn_and_the_others_are_a_click_away(
        self, api, page
    ):
        ids = [api.issue()["id"] for _ in range(20)]
        html = page()
        assert drawn(html) == ids[:7:-1]
        assert "20 tokens;" in html
        more = unescape(re.search(r'<a href="([^"]+)">8 older ones of this name', html)[1])
        assert "limit=all" in more
        assert drawn(api.http.get(more).text) == ids[::-1]

    def test_of_many_names_those_with_the_newest_tokens_are_drawn_and_the_others_linked(
        self, api, page
    ):
        for number in range(8):
            api.issue(name=f"account-{number}")
        html = page()
        assert re.findall(r"<h2[^>]*><bdi>account-(\d)", html) == list("765432")
        assert re.findall(r'<a href="[^"]*name=account-(\d)[^"]*"><bdi>', html) == ["1", "0"]


class TestTheAccountsClock:
    def test_sixty_days_later_the_axis_has_days_and_a_traffic_of_seconds_is_not_pretended(
        self, api, page
    ):
        old = api.issue(expires_in=30 * 86400)
        api.send(old["token"])
        api.control("clock", advance=60 * 86400)
        html = page()
        assert kinds(html, old["id"], "mark")[-1] == "expired"
        assert '<path d=""' in row(html, old["id"])
        assert "too thin to be seen" in html
        assert re.search(r"<text[^>]*>[A-Z][a-z]{2} \d\d</text>", html)
        assert kinds(page(window="60"), old["id"], "life") == []

    def test_set_back_to_before_the_tokens_it_still_answers(self, api, page):
        issued = api.issue()
        api.send(issued["token"])
        api.control("clock", advance=-86400)
        for window in ("fit", "60", "all"):
            assert drawn(page(window=window)) == [issued["id"]]


def test_after_a_restart_it_says_what_is_not_remembered_instead_of_that_there_was_nothing(
    tmp_path, connect
):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        token = api.issue()
        api.send(token["token"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        html = api.http.get(PAGE).text
        assert "1 <tspan" in row(html, token["id"])
        assert figure(html, "Messages a second") == ("0.0", "earlier ones are not remembered")
        assert figure(html, "Longest pause") == ("—", "not remembered")
        assert figure(html, "Failed sends") == ("0", "of more than 0 in this stretch")
        assert "the seconds are not remembered" in html
        api.control("clock", advance=600)
        later = api.http.get(PAGE, params={"window": "60"}).text
        assert figure(later, "Messages a second") == ("0.0", "none in this stretch")


def test_failed_sends_are_found_without_a_look_at_the_requests_that_did_not_fail():
    journal = Journal(None)
    plan = journal.rows(f"EXPLAIN QUERY PLAN {FAILED_SENDS}", 0.0, 1.0)
    assert "USING INDEX audit_failed_sends" in plan[0][-1]
    journal.close()


def test_a_long_story_is_drawn_with_few_columns_however_many_seconds_it_has():
    journal = Journal(None)
    account = Account(journal, deriving(bytes(32)))
    here = Origin("test", "127.0.0.1")
    wish = TokenWish("acme", ("messages:send",))
    tokens = [account.issue(wish, here) for _ in range(12)]
    for _ in range(900):
        account.clock.advance(1)
        for token in tokens:
            account.usage.carried(token, here)
            account.usage.used(token, here)
    picture = Picture(account, name="", chosen="900", everything=False)
    (group,) = picture.groups
    assert [row.columns.count("z") for row in group.rows] == pytest.approx([180] * 12, abs=2)
    assert picture.traffic.pause == 0
    assert picture.traffic.rate == 12
    journal.close()
