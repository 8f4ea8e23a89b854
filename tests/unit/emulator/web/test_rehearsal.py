"""Rehearse: every form does what its request does, and says beside itself why it was refused."""

import json
import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from html import unescape
from html.parser import HTMLParser

import httpx2
import pytest

from cmzon_secrets.emulator.web import rehearsal
from cmzon_secrets.examinations.api import examine_endpoint

PAGE = "/dashboard/rehearse"
ROUTE = "POST /v1/messages"
PAGES = ["/dashboard", "/dashboard/tokens", "/dashboard/rotation", PAGE, "/dashboard/audit"]
HOSTILE = "\"><script>alert(1)</script>'\u202e{{ 7*7 }}"
DAY = 86400


@dataclass
class Shown:
    """A form as a browser would send it."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    label: str = ""


class Reader(HTMLParser):
    """The forms of a page, by the text on their button."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: dict[str, Shown] = {}
        self._form: Shown | None = None
        self._select = ""
        self._in_button = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self._form = Shown(given["action"])
        elif self._form is None:
            return
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self._form.fields[given["name"]] = given.get("value", "on")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select:
            self._option(given)
        elif tag == "button":
            self._in_button = True
            self._form.label = given.get("aria-label", "")

    def _option(self, given):
        if "selected" in given or self._select not in self._form.fields:
            self._form.fields[self._select] = given.get("value", ROUTE)

    def handle_data(self, data):
        if self._in_button and not self._form.label:
            self._form.label = data

    def handle_endtag(self, tag):
        if tag == "select":
            self._select = ""
        elif tag == "button":
            self._in_button = False
        elif tag == "form" and self._form is not None:
            self.forms[self._form.label] = self._form
            self._form = None


class Rehearsal:
    """The page, and somebody at it."""

    def __init__(self, api) -> None:
        self.api = api

    def html(self, path: str = PAGE) -> str:
        answer = self.api.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def form(self, label: str) -> Shown:
        return Reader(self.html()).forms[label]

    def press(self, label: str, **changes: str) -> httpx2.Response:
        form = self.form(label)
        return self.api.http.post(form.action, data=form.fields | changes)

    def done(self, label: str, **changes: str) -> str:
        """Press, be sent back, and read what the page says then."""
        answer = self.press(label, **changes)
        assert answer.status_code == 303, answer.text
        return self.html(answer.headers["location"])

    def request_of(self, label: str) -> list[str]:
        """The command that is shown with a button, as a shell would take it apart."""
        after = self.html().split(f">{label}</button>", 1)[1]
        return shlex.split(unescape(re.search(r"<code>(curl.*?)</code>", after, re.DOTALL)[1]))

    def run(self, command: list[str]) -> None:
        method = command[command.index("-X") + 1] if "-X" in command else "POST"
        url = next(word for word in command if word.startswith("http"))
        body = json.loads(command[command.index("-d") + 1]) if "-d" in command else None
        self.api.http.request(method, url, json=body).raise_for_status()

    def faults(self) -> list[dict]:
        return self.api.http.get("/_emulator/faults").json()["data"]

    def limits(self) -> tuple[int | None, int | None]:
        shown = self.api.http.get("/_emulator/limits").json()
        return shown["per_second"], shown["per_day"]

    def shift(self) -> float:
        return self.api.http.get("/_emulator/clock").json()["shift"]

    def state(self) -> tuple:
        """All that the page changes, but for what is drawn by lot."""
        faults = [
            {n: v for n, v in fault.items() if n not in ("id", "seed")} for fault in self.faults()
        ]
        return faults, self.limits(), self.shift()


@pytest.fixture
def page(api):
    return Rehearsal(api)


def statuses(api, n):
    return [api.send().status_code for _ in range(n)]


def date_of(answer: httpx2.Response) -> datetime:
    return parsedate_to_datetime(answer.headers["date"])


def text_of(html: str, element_id: str) -> str:
    """What a live region says."""
    part = re.search(rf'id="{element_id}".*?</(?:dl|section|table)>', html, re.DOTALL)[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())


# --- presets and their requests --------------------------------------------------------------

CLICKS = [
    *("429 burst", "Three 500s", "Accepted, then reset", "2 s latency", "10 % 503"),
    *("Vendor's", "New account", "Off"),
    *("+1 hour", "+1 day", "+30 days", "+60 days", "+90 days"),
    *("Set the fault", "Set the limits", "Move the clock"),
]


@pytest.mark.parametrize("label", CLICKS)
def test_a_button_and_the_request_shown_with_it_do_the_same(page, api, label):
    api.control("limits", per_second=7)
    form, command = page.form(label), page.request_of(label.replace("'", "&#39;"))
    api.control("limits", per_second=9)  # so that setting them to what they were does something
    before = page.state()
    api.http.post(form.action, data=form.fields)
    by_button = page.state()
    api.control("reset")
    api.control("limits", per_second=9)
    page.run(command)
    assert page.state() == by_button != before


def test_a_burst_of_429_is_over_after_twenty_sends(page, api):
    page.done("429 burst")
    first = api.send()
    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert statuses(api, 20) == [429] * 19 + [200]


def test_three_500s_are_three_and_nothing_is_sent_meanwhile(page, api):
    page.done("Three 500s")
    assert statuses(api, 4) == [500, 500, 500, 200]
    assert api.messages() == 1


def test_accepted_then_reset_sends_twice_only_where_a_client_repeats_without_a_key(page, api):
    page.done("Accepted, then reset")
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        api.send(key="k1")
    assert api.send(key="k1").status_code == 200
    assert api.messages() == 1
    page.done("Accepted, then reset")
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        api.send()
    assert api.send().status_code == 200
    assert api.messages() == 3


def test_ten_percent_503_strikes_the_same_sends_in_every_run(page, api):
    runs = []
    for _ in range(2):
        page.done("10 % 503")
        runs.append(statuses(api, 40))
        page.done("End all faults")
    assert runs[0] == runs[1]
    assert 0 < runs[0].count(503) < 20


# --- a fault of one's own ---------------------------------------------------------------------


def test_every_field_of_the_form_is_a_field_of_the_fault(page, api):
    token = api.issue()
    page.done(
        "Set the fault",
        route="GET /v1/tokens",
        token=token["id"],
        status="507",
        retry_after="2.5",
        latency="0.25",
        after_accept="on",
        count="3",
        probability="0.5",
        seed="11",
    )
    assert page.faults() == [
        {
            "id": "flt_1",
            "route": "GET /v1/tokens",
            "token": token["id"],
            "status": 507,
            "retry_after": 2.5,
            "latency": 0.25,
            "reset": False,
            "after_accept": True,
            "count": 3,
            "probability": 0.5,
            "seed": 11,
            "struck": 0,
            "drawn": 0,
        }
    ]


def test_a_zero_is_a_number_and_not_an_empty_field(page):
    page.done("Set the fault", kind="429", retry_after="0", probability="0", seed="0")
    (fault,) = page.faults()
    assert (fault["retry_after"], fault["probability"], fault["seed"]) == (0, 0, 0)


def test_an_empty_field_is_left_to_the_emulator(page):
    page.done("Set the fault")
    (fault,) = page.faults()
    assert "count" not in fault
    assert "token" not in fault
    assert fault["probability"] == 1


@pytest.mark.parametrize(
    ("changes", "told", "marked"),
    [
        ({"status": "200"}, "Or another status — a number from 400 to 599", "status"),
        ({"kind": "reset", "status": "teapot"}, "Or another status — a number", "status"),
        ({"kind": "reset", "status": "503"}, "Or another status — a connection that is", "status"),
        ({"kind": "late", "status": "503"}, "Or another status — the true answer", "status"),
        ({"kind": "teapot"}, "What happens — a number", "kind"),
        ({"kind": "late"}, "Latency — seconds are missing", "latency"),
        ({"kind": "late", "latency": "0"}, "Latency — seconds are missing", "latency"),
        ({"kind": "late", "latency": "-1"}, "Latency — a number from 0 to 3,600", "latency"),
        ({"kind": "late", "latency": "4000"}, "Latency — a number from 0 to 3,600", "latency"),
        ({"kind": "reset", "retry_after": "1"}, "Retry after — it needs a status", "retry_after"),
        ({"retry_after": "soon"}, "Retry after — a number", "retry_after"),
        ({"count": "0"}, "How often — a number from 1 to 1,000,000,000 is needed", "count"),
        ({"count": "many"}, "How often — a number", "count"),
        ({"count": "1.5"}, "How often — a whole number", "count"),
        ({"probability": "1.1"}, "Probability — a number from 0 to 1", "probability"),
        ({"probability": "nan"}, "Probability — a number from 0 to 1", "probability"),
        ({"seed": "-1"}, "Seed — a number from 0 to 9,007,199,254,740,992", "seed"),
        ({"seed": "9" * 5000}, "Seed — a number", "seed"),
        ({"route": "POST /_emulator/reset"}, "Route — ", "route"),
        ({"token": "tok_unknown"}, "Token — unknown", "token"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_refused_fault_is_explained_in_the_words_of_the_form_which_keeps_its_values(
    page, changes, told, marked
):
    answer = page.press("Set the fault", **changes)
    assert answer.status_code == 400
    assert re.search(rf'role="alert" id="faults-error">{told}', answer.text)
    (invalid,) = re.findall(r'<(?:input|select) id="faults-(\w+)"[^>]*aria-invalid', answer.text)
    assert invalid == marked
    kept = Reader(answer.text).forms["Set the fault"].fields
    chosen = {name for name in changes if name not in ("route", "token", "kind")}
    assert {name: kept[name] for name in chosen} == {name: changes[name] for name in chosen}
    assert page.faults() == []


def test_what_was_typed_into_a_refused_form_is_shown_and_not_run(page):
    for name in ("kind", "route", "token", "count", "status", "seed"):
        answer = page.press("Set the fault", **{name: HOSTILE})
        assert answer.status_code == 400
        assert "<script>alert" not in answer.text
        assert "49" not in Reader(answer.text).forms["Set the fault"].fields.values()
    assert Reader(answer.text).forms["Set the fault"].fields["seed"] == HOSTILE


def test_the_form_offers_the_live_tokens_the_newest_first(page, api):
    old, dead, new = (api.issue(name=HOSTILE) for _ in range(3))
    api.revoke(dead["id"])
    html = page.html()
    assert "<script>alert" not in html
    offered = re.findall(r'<option value="(tok_\w+)"', html)
    assert offered[:2] == [new["id"], old["id"]]
    assert dead["id"] not in offered
    assert "<option disabled>" not in html


def test_a_list_of_tokens_that_is_cut_says_so(page, api, monkeypatch):
    monkeypatch.setattr(rehearsal, "TOKENS_OFFERED", 2)
    newest = [api.issue()["id"] for _ in range(3)][:0:-1]
    html = page.html()
    assert re.findall(r'<option value="(tok_\w+)"', html) == newest
    assert "<option disabled>the newest 2 of 4; a request takes any</option>" in html


def test_what_a_page_says_was_done_stays_true_when_it_is_loaded_again(page, api):
    api.fault(status=500, count=1)
    statuses(api, 1)
    assert "The fault was set." in page.html(f"{PAGE}?done=fault")


def test_a_form_that_is_too_long_leads_back_to_its_page(page):
    answer = page.press("Set the fault", seed="9" * 70_000)
    assert answer.status_code == 413
    assert f'<a href="{PAGE}">To Rehearse</a>' in answer.text


@pytest.mark.parametrize("path", ["faults", "faults/flt_1/end", "limits", "clock", "snapshots"])
def test_where_a_form_goes_the_page_can_be_loaded_again(page, path):
    assert "<h1>Rehearse</h1>" in page.html(f"{PAGE}/{path}")


# --- what is in force ---------------------------------------------------------------------------


def test_a_fault_in_force_says_what_it_does_how_often_and_how_often_it_did(page, api):
    token = api.issue(name="acme <b>")
    api.fault(status=429, retry_after=1, count=1200, token=token["id"])
    statuses(api, 1)
    api.send(token["token"])
    told = text_of(page.html(), "in-force")
    assert "status 429, retry after 1 s" in told
    assert "acme <b> 1,199 more times 1 " in told


def test_a_probable_fault_tells_its_seed_and_for_how_many_requests_it_was_drawn(page, api):
    api.fault(status=503, probability=0.25, seed=7)
    assert "any 25 % of the time seed 7 0 End" in text_of(page.html(), "in-force")
    struck = statuses(api, 12).count(503)
    told = text_of(page.html(), "in-force")
    assert f"any 25 % of the time seed 7 {struck} of 12 " in told


def test_a_fault_that_is_both_counted_and_probable_tells_both(page, api):
    api.fault(status=503, count=3, probability=1 / 3)
    assert "3 more times, 33.3 % of the time" in text_of(page.html(), "in-force")


def test_a_fault_in_force_shows_the_request_that_sets_it_again(page, api):
    fault = api.fault(status=503, probability=0.25, seed=7)
    shown = re.search(r"flt_1.*?<code>(curl.*?)</code>", page.html(), re.DOTALL)[1]
    page.done("End all faults")
    page.run(shlex.split(unescape(shown)))
    assert page.faults() == [{**fault, "id": "flt_2"}]


def test_one_fault_is_ended_and_the_others_stay(page, api):
    api.fault(status=500)
    api.fault(status=502)
    page.done("End status 500 (flt_1)")
    assert [fault["status"] for fault in page.faults()] == [502]


def test_ending_a_fault_that_was_used_up_meanwhile_is_no_error(page, api):
    api.fault(status=500, count=1)
    form = Reader(page.html()).forms["End status 500 (flt_1)"]
    statuses(api, 1)
    assert api.http.post(form.action, data=form.fields).status_code == 303


def test_the_banner_says_how_likely_a_fault_is(api, page):
    api.fault(status=503, probability=0.3)
    assert "status 503, 30 % of the time" in page.html("/dashboard")


def test_the_banner_tells_of_three_faults_and_how_many_more_there_are(api, page):
    for status in (500, 502, 503):
        api.fault(status=status, probability=1 / 3)
    assert "more" not in banner(page)
    assert "status 503, 33.3 % of the time." in banner(page)
    for status in (504, 505):
        api.fault(status=status)
    assert "5 faults are in force. " in banner(page)
    assert "And 2 more. See and end them" in banner(page)
    assert "504" not in banner(page)


def banner(page: "Rehearsal") -> str:
    return text_of(page.html("/dashboard"), "banner")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_banner_while_a_fault_is_in_force_and_none_once_it_is_used_up(
    page, api, path
):
    api.fault(status=500, count=1)
    assert 'id="banner-faults"' in page.html(path)
    statuses(api, 1)
    assert 'id="banner-faults"' not in page.html(path)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_looks_again_when_a_fault_begins_or_is_used_up(page, path):
    topics = re.search(r'data-topics="([^"]*)"', page.html(path))[1].split()
    assert "rehearsal" in topics
    assert re.search(r'id="banner"[^>]*data-live', page.html(path))


def test_open_pages_are_told_when_the_last_strike_is_used_up(page, api, connect):
    api.fault(status=500, count=1)
    with connect(api.emulator).http.stream("GET", "/dashboard/events") as stream:
        lines = stream.iter_lines()
        next(lines)  # it listens
        statuses(api, 1)
        assert "rehearsal" in next(line for line in lines if line.startswith("data: "))


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "quota"),
    [("Vendor's", (80, 10_000)), ("New account", (80, 1_000)), ("Off", (None, None))],
)
def test_the_usual_limits_are_one_click_away(page, api, label, quota):
    api.control("limits", per_second=7, per_day=7)
    page.done(label)
    assert page.limits() == quota


def test_limits_of_ones_own_hold_and_an_empty_field_lifts_one(page, api):
    html = page.done("Set the limits", per_second="", per_day="2")
    assert page.limits() == (None, 2)
    assert statuses(api, 3) == [200, 200, 429]
    assert 'id="banner-limits"' in html
    assert "A second any number (the busiest so far: 2) A day 2 (today: 2)" in text_of(
        page.html(), "limits-now"
    )


def test_a_request_that_wants_a_reset_and_a_status_is_shown_as_the_reset_that_it_is(page, api):
    fault = {"route": ROUTE, "reset": True, "status": 503}
    assert api.http.post("/_emulator/faults", json=fault).status_code == 200
    (told,) = page.faults()
    assert (told["status"], told["without_effect"]) == (503, ["status"])
    assert "reset" in page.html()
    assert "without_effect" not in page.html()


@pytest.mark.parametrize("bad", ["0", "-5", "1.5", "lots", "1e99", "inf"])
def test_refused_limits_are_explained_beside_the_form_and_stay_as_they_were(page, bad):
    answer = page.press("Set the limits", per_day=bad)
    assert answer.status_code == 400
    assert re.search(r'id="limits-error">Messages a day — ', answer.text)
    assert Reader(answer.text).forms["Set the limits"].fields["per_day"] == bad
    assert page.limits() == (80, 10_000)


# --- the clock ------------------------------------------------------------------------------------


def test_sixty_days_pass_at_a_click_and_a_token_of_thirty_days_is_over(page, api):
    token = api.issue(expires_in=30 * DAY)
    html = page.done("+60 days")
    assert page.shift() == 60 * DAY
    assert "60 d ahead of real time" in text_of(html, "clock-now")
    assert 'id="banner-clock"' in html
    assert api.send(token["token"]).status_code == 401


def test_the_clock_goes_back_to_real_time_from_wherever_it_is(page):
    page.done("+1 hour")
    page.done("Move the clock", advance="-7300.25")
    assert page.shift() == -3700.25
    html = page.done("Back to real time")
    assert page.shift() == 0
    assert "Back to real time" not in html


def test_the_request_that_goes_back_to_real_time_names_the_seconds(page):
    page.done("+1 day")
    page.run(page.request_of("Back to real time"))
    assert page.shift() == 0


def test_the_date_of_every_answer_follows_the_clock(page, api):
    page.done("+60 days")
    ahead = [
        date_of(api.http.get(path)) - datetime.now(UTC) for path in ("/v1/tokens", PAGE, "/no")
    ]
    assert all(abs(by - timedelta(days=60)) < timedelta(minutes=1) for by in ahead)
    page.done("Back to real time")
    assert abs(date_of(api.http.get(PAGE)) - datetime.now(UTC)) < timedelta(minutes=1)


def test_doctor_notices_that_the_clock_was_moved(page, api):
    page.done("+1 hour")
    findings = examine_endpoint(api.emulator.base_url, ca=None, now=datetime.now(UTC))
    (clock,) = (finding for finding in findings if finding.check == "clock.api")
    assert clock.severity == "problem"
    assert "behind that of the API" in clock.message


@pytest.mark.parametrize("bad", ["", "tomorrow", "1e12", "nan", "--5"])
def test_a_refused_move_is_explained_beside_the_form_and_time_stays(page, bad):
    answer = page.press("Move the clock", advance=bad)
    assert answer.status_code == 400
    assert re.search(r'id="clock-error">Move it by — ', answer.text)
    assert Reader(answer.text).forms["Move the clock"].fields["advance"] == bad
    assert page.shift() == 0


# --- snapshots and reset --------------------------------------------------------------------------


def test_a_snapshot_brings_back_what_was_and_is_forgotten_when_deleted(page, api):
    api.fault(status=500, count=2)
    page.done("Take a snapshot", name="before")
    assert statuses(api, 3) == [500, 500, 200]
    page.done("+60 days")
    page.done("Restore before")
    assert page.shift() == 0
    assert api.messages() == 0
    assert statuses(api, 1) == [500]
    assert "There is none." in page.done("Delete before")


def test_a_snapshot_gets_a_fresh_name_and_taking_one_of_a_name_in_use_says_that_it_replaced(page):
    assert page.form("Take a snapshot").fields["name"] == "snapshot-1"
    assert "The snapshot was taken.<" in page.done("Take a snapshot")
    assert page.form("Take a snapshot").fields["name"] == "snapshot-2"
    page.done("Take a snapshot")
    page.done("Delete snapshot-1")
    assert page.form("Take a snapshot").fields["name"] == "snapshot-1"
    html = page.done("Take a snapshot", name="snapshot-2")
    assert "it replaced the one of that name" in html


def test_to_restore_a_snapshot_is_one_more_step(page):
    page.done("Take a snapshot", name="before")
    asked = re.search(
        r'<details class="sure" id="restore-before">.*?</details>', page.html(), re.DOTALL
    )
    assert "/snapshots/before/restore" in asked[0]
    assert page.html().count('action="/dashboard/rehearse/snapshots/before/restore"') == 1


def test_no_name_of_a_snapshot_makes_an_id_that_the_page_has_already(page):
    for name in ("reset", "now", "heading", "name", "error", "faults"):
        page.done("Take a snapshot", name=name)
    ids = re.findall(r'\sid="([^"]*)"', page.html())
    assert len(ids) == len(set(ids))


def test_a_name_that_no_snapshot_can_have_is_refused_beside_the_form(page):
    answer = page.press("Take a snapshot", name="../secrets")
    assert answer.status_code == 400
    assert re.search(r'id="snapshots-error">Name — ', answer.text)
    assert Reader(answer.text).forms["Take a snapshot"].fields["name"] == "../secrets"


def test_a_snapshot_that_is_gone_cannot_be_restored_and_the_page_says_so(page, api):
    page.done("Take a snapshot", name="before")
    form = Reader(page.html()).forms["Restore before"]
    page.done("Delete before")
    api.send()
    answer = api.http.post(form.action, data=form.fields)
    assert answer.status_code == 404
    assert re.search(r'role="alert" id="snapshots-error">[^<]+<', answer.text)
    assert api.messages() == 1


def test_reset_is_one_step_away_and_leaves_the_account_as_new(page, api):
    fresh = page.state()
    api.issue()
    api.fault(status=500)
    page.done("+1 day")
    page.done("Reset the account")
    assert page.state() == fresh
    assert api.stats()["tokens"] == {"live": 1, "revoked": 0}
