"""Audit trail: what was done to tokens, on the page and as a file, whole or narrowed down."""

import json
import re
from html import unescape

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.history import EMULATOR, EVENTS, History, HistoryFilter
from cmzon_secrets.emulator.storage.journal import Journal

PAGE = "/dashboard/audit"
FILE = "/_emulator/audit.jsonl"
HOSTILE = "\"><script>alert(1)</script>'\u202e\u2028{{ 7*7 }}"


class Trail:
    """The page and the file."""

    def __init__(self, api) -> None:
        self.api = api

    def html(self, status: int = 200, **query: str) -> str:
        answer = self.api.http.get(PAGE, params=query)
        assert answer.status_code == status, answer.text
        return answer.text

    def rows(self, **query: str) -> list[list[str]]:
        """The cells of each row, from above."""
        body = re.search(r"<tbody>(.*?)</tbody>", self.html(**query), re.DOTALL)
        return [
            [text_of(cell) for cell in re.findall(r"<t[dh][ >].*?</t[dh]>", row, re.DOTALL)]
            for row in re.findall(r"<tr.*?</tr>", body[1] if body else "", re.DOTALL)
        ]

    def events(self, **query: str) -> list[tuple[str, str]]:
        """Event and token's name of each row, from above."""
        return [(row[1].split()[0], row[2].split()[0]) for row in self.rows(**query)]

    def file(self, **query: str) -> list[dict]:
        answer = self.api.http.get(FILE, params=query).raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def trail(api):
    return Trail(api)


@pytest.fixture
def story(api):
    """Two tokens: one that sends and is revoked, one whose time is ended by hand."""
    first, second = api.issue(name="acme"), api.issue(name="other 100%")
    api.send(first["token"])
    api.revoke(first["id"])
    api.http.post(f"/_emulator/tokens/{second['id']}/expire").raise_for_status()
    return first, second


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# --- the page -------------------------------------------------------------------------------


def test_everything_done_to_tokens_is_told_newest_first(trail, story):
    assert trail.events() == [
        ("expired_now", "other"),
        ("revoked", "acme"),
        ("promoted", "acme"),
        ("first_used", "acme"),
        ("issued", "other"),
        ("issued", "acme"),
        ("first_used", "emulator-admin"),
        ("issued", "emulator-admin"),
    ]


def test_a_row_tells_what_it_means_whose_token_who_did_it_from_where_and_by_which_request(
    trail, story, api
):
    (row,) = trail.rows(event="revoked")
    request = api.call("GET", "/v1/audit").json()["data"][3]
    assert request["method"] == "DELETE"
    when, event, token, by, address, request_id = row
    assert re.fullmatch(r"\d\d:\d\d:\d\d", when)
    assert event == f"revoked {EVENTS['revoked']}"
    assert token == f"acme {story[0]['id']}"
    assert by == "emulator-admin"
    assert address == "127.0.0.1"
    assert request_id == request["request_id"]


def test_what_no_token_did_is_by_the_emulator_or_by_a_control(trail, story):
    assert [row[3] for row in trail.rows(event="issued")][-1] == "emulator"
    assert [row[3] for row in trail.rows(event="expired_now")] == ["control"]


@pytest.mark.parametrize(
    ("query", "events"),
    [
        ({"token": "acme"}, ["revoked", "promoted", "first_used", "issued"]),
        ({"token": "ACM"}, ["revoked", "promoted", "first_used", "issued"]),
        ({"token": "100%"}, ["expired_now", "issued"]),
        ({"token": "1%0"}, []),
        ({"event": "promoted"}, ["promoted"]),
        ({"by": "control"}, ["expired_now"]),
        ({"by": "acme"}, ["promoted", "first_used"]),
        ({"by": "acm"}, []),
        ({"ip": "127.0.0.1", "by": "control"}, ["expired_now"]),
        ({"ip": "192.0.2.1"}, []),
        ({"token": " acme ", "event": "issued"}, ["issued"]),
        ({"token": "nobody's"}, []),
    ],
    ids=str,
)
def test_the_page_and_the_file_are_narrowed_down_alike(trail, story, query, events):
    assert [event for event, _ in trail.events(**query)] == events
    assert [entry["event"] for entry in trail.file(**query)] == events[::-1]


def test_a_token_is_found_by_its_id_and_so_is_what_a_token_did(trail, story, api):
    first, _ = story
    assert {name for _, name in trail.events(token=first["id"])} == {"acme"}
    assert trail.events(by=first["id"]) == [("promoted", "acme"), ("first_used", "acme")]
    admin = api.call("GET", "/v1/tokens/self").json()["id"]
    assert ("revoked", "acme") in trail.events(by=admin)


def test_an_unknown_event_is_refused_beside_the_form_which_keeps_what_was_typed(trail, story):
    html = trail.html(400, event="stolen", token=HOSTILE)
    assert re.search(r'role="alert" id="refusal">Event — unknown; known: issued', html)
    assert re.search(r'<select id="event"[^>]*aria-invalid="true"', html)
    assert "<script>alert" not in html
    assert unescape(re.search(r'id="token"[^>]*value="([^"]*)"', html)[1]) == HOSTILE


@pytest.mark.parametrize(
    ("field", "label"), [("token", "Token"), ("by", "By"), ("ip", "Address"), ("event", "Event")]
)
@pytest.mark.parametrize("text", ["a" * 60_000, "_" * 30_000])
def test_a_filter_too_long_to_be_meant_is_refused_beside_its_field(api, trail, field, label, text):
    html = trail.html(400, **{field: text})
    assert f'id="refusal">{label} — at most 200 characters' in html
    assert re.findall(r'id="(\w+)"[^>]*aria-invalid', html) == [field]
    refused = api.http.get(FILE, params={field: text})
    assert api.details(refused).startswith(f"{field} — at most 200 characters")


def test_the_entries_of_exactly_one_token_are_asked_for_by_token_id(trail, api):
    one = api.issue(name="one")
    other = api.issue(name=f"after {one['id']}")
    assert {name for _, name in trail.events(token=one["id"])} == {"one", "after"}
    assert {name for _, name in trail.events(token_id=one["id"])} == {"one"}
    assert {entry["token_id"] for entry in trail.file(token_id=other["id"])} == {other["id"]}
    html = trail.html(token_id=one["id"])
    assert "Only of the token" in html
    assert '<a href="/dashboard/audit">Of all tokens</a>' in html
    assert f'type="hidden" name="token_id" value="{one["id"]}"' in html


def test_the_request_of_a_message_leads_to_the_message_and_other_requests_lead_nowhere(
    trail, story
):
    promoted, revoked = (trail.html(event=event) for event in ("promoted", "revoked"))
    assert re.search(r'<a href="/dashboard\?show=req_\w+">', promoted)
    assert "show=req_" not in revoked
    assert re.search(r"<code>req_\w+</code>", revoked)


def test_of_more_than_two_hundred_the_newest_are_shown_with_a_link_to_all(trail, api):
    for number in range(201):
        api.issue(name=f"acme-{number}")
    assert len(trail.rows()) == 200
    html = trail.html(event="issued", token="acme")
    assert text_of(re.search(r'id="count">.*?</p>', html)[0].partition(">")[2]) == (
        "The newest 200. Show all"
    )
    every = unescape(re.search(r'href="([^"]*limit=all)"', html)[1])
    whole = api.http.get(every).text
    assert whole.count("<tr id=") == 201
    assert "201 entries, all there are with this filter." in whole


def test_a_hostile_name_is_shown_and_not_run(trail, api):
    api.issue(name=HOSTILE)
    assert "<script>alert" not in trail.html()
    assert trail.rows(token="script")[0][2].startswith(HOSTILE[:26])
    assert [entry["name"] for entry in trail.file(token="script")] == [HOSTILE]


def test_the_page_is_live_for_tokens_and_nobody_types_into_what_is_exchanged(trail):
    html = trail.html()
    assert "tokens" in re.search(r'data-topics="([^"]*)"', html)[1].split()
    live = re.search(r'id="entries" data-live>(.*?)</section>', html, re.DOTALL)[1]
    assert "<input" not in live
    assert "<select" not in live


# --- the file -------------------------------------------------------------------------------


def test_the_file_is_one_json_object_a_line_oldest_first_to_be_saved(trail, story, api):
    answer = api.http.get(FILE)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="cmzon-audit.jsonl"'
    entries = trail.file()
    assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)
    assert set(entries[0]) == {"seq", "at", "event", "token_id", "name", "by", "ip", "request_id"}
    assert answer.text.endswith("\n")


def test_the_link_on_the_page_downloads_exactly_what_the_page_shows(trail, story, api):
    html = trail.html(token="acme", ip="127.0.0.1", event="first_used")
    link = unescape(re.search(r'href="([^"]*)" download>Download these', html)[1])
    shown = re.findall(r'id="entry-(\d+)"', html)
    assert [str(json.loads(line)["seq"]) for line in api.http.get(link).text.splitlines()] == shown
    assert shown


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("event=stolen", "event"),
        ("tokens=acme", "tokens"),
        ("limit=5", "limit"),
        ("token=a&token=b", "query"),
    ],
)
def test_a_parameter_that_is_none_is_refused_by_name(api, query, named):
    assert api.details(api.http.get(f"{FILE}?{query}")).startswith(f"{named} — ")


@pytest.mark.parametrize(
    "name", ['=cmd|"/C calc"!A0', "two\nlines\r\n", "x\u2028\u2029\x85", "é🙂"]
)
def test_no_name_breaks_out_of_its_line_or_its_string(trail, api, name):
    api.issue(name=name)
    lines = api.http.get(FILE, params={"event": "issued"}).text.splitlines()
    assert json.loads(lines[-1])["name"] == name
    assert len(lines) == 2


def test_more_entries_than_are_read_at_once_come_whole_and_in_order():
    journal = Journal(None)
    try:
        history = History(journal)
        for number in range(25):
            history.append(number, "used_from", f"tok_{number % 2}", EMULATOR)
        for at_once in (1, 10, 25, 26):
            found = list(history.each(HistoryFilter(token="tok_1"), at_once=at_once))
            assert [entry.at for entry in found] == list(range(1, 25, 2))
    finally:
        journal.close()


def test_no_secret_is_in_the_trail(trail, story, api):
    told = trail.html() + api.http.get(FILE).text
    assert api.emulator.admin_token not in told
    assert all(token["token"] not in told for token in story)


# --- what is told ---------------------------------------------------------------------------


def test_a_token_used_from_an_address_it_is_not_allowed_from_is_told_once(trail, api):
    token = api.issue(name="fenced", allowed_ips=["192.0.2.0/24"])
    assert [api.send(token["token"]).status_code for _ in range(3)] == [403] * 3
    (entry,) = trail.file(event="address_refused")
    assert (entry["name"], entry["by"], entry["ip"]) == ("fenced", token["id"], "127.0.0.1")
    assert trail.file(token="fenced", event="first_used") == []


def test_an_attempt_to_make_or_to_revoke_a_token_without_the_scope_is_told_once(trail, api):
    token = api.issue(name="sender")
    wish = {"name": "mine", "scopes": ["tokens:manage"]}
    tried = api.call("POST", "/v1/tokens", token["token"], json=wish)
    assert tried.status_code == 403
    assert api.call("DELETE", f"/v1/tokens/{token['id']}", token["token"]).status_code == 403
    (entry,) = trail.file(event="scope_refused")
    assert (entry["name"], entry["request_id"]) == ("sender", tried.headers["x-request-id"])


def test_each_time_a_tokens_value_is_told_again_is_in_the_trail(trail, api):
    token = api.issue(name="once", key="k1")
    assert [api.issue(name="once", key="k1")["token"] for _ in range(2)] == [token["token"]] * 2
    assert [e["event"] for e in trail.file(token="once")] == ["issued", "repeated", "repeated"]


def test_what_was_told_once_is_not_told_again_after_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        token = api.issue(allowed_ips=["192.0.2.1"])
        api.send(token["token"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        api.send(token["token"])
        assert len(Trail(api).file(event="address_refused")) == 1
