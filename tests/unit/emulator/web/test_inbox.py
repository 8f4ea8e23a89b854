"""Messages: what was sent, as a phone shows it, and every request with its answer as sent."""

import contextlib
import json
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, TreeBuilder

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator import web as dashboard
from cmzon_secrets.emulator.web.site import PAGES
from cmzon_secrets.emulator.web.templates import make_environment

FOLDER = Path(dashboard.__file__).parent
ONE, TWO = "+1234567890", "+4915112345678"
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": '<img src=x onerror="alert(1)">',
    "closing tags": "</p></li></ol></main></body><svg onload=alert(1)>",
    "attribute breaker": '"\'><a href=javascript:alert(1)>x</a> onmouseover="alert(1)',
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7} <%= 7 %>",
    "entities": "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "comment": "<!-- --><![CDATA[ ]]> <? ?>",
    "right to left": "مرحبا abc שלום (1, 2) x",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "one long word": "W" * 4096,
    "4,096 characters": ("0123456789 é " * 400)[:4096],
    "lines": "one\n two\t three\n\n four",
    "quotes": 'it\'s "so" `id` $(id) \\ $HOME ! ; | & > <',
}
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """A page as a tree; texts are what a browser shows, without reading any of it as markup."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.answer = answer
        self._tree = TreeBuilder()
        self.feed(answer.text)
        self.close()
        self.root = self._tree.close()

    def handle_starttag(self, tag, attrs):
        self._tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self._tree.end(tag)

    def handle_endtag(self, tag):
        self._tree.end(tag)

    def handle_data(self, data):
        self._tree.data(data)

    def all(self, path: str) -> list[Element]:
        return self.root.findall(f".//{path}")

    def get(self, element_id: str) -> Element:
        (found,) = self.all(f"*[@id='{element_id}']")
        return found

    def has(self, element_id: str) -> bool:
        return bool(self.all(f"*[@id='{element_id}']"))

    def text(self, element_id: str = "main") -> str:
        return words(self.get(element_id))

    def bubbles(self) -> list[Element]:
        rows = self.all("div[@id='bubbles']/ol/li[a]")
        return [row for row in rows if row.get("id", "").startswith("m")]

    def texts(self) -> list[str]:
        """The texts of the conversation, from above."""
        return [raw(bubble.find("p")) for bubble in self.bubbles()]

    def conversations(self) -> list[str]:
        """Number, last text and counts of each, from above; without "everything"."""
        rows = self.all("ul[@id='conversations']/li[a]")[1:]
        return [words(row) for row in rows if row.get("id", "").startswith("to-")]

    def href(self, text: str) -> str:
        """Where the link that contains a text leads."""
        (href,) = {link.get("href") for link in self.all("a") if text in raw(link)}
        return href


def raw(element: Element) -> str:
    return "".join(element.itertext())


def words(element: Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


class Inbox:
    """The page of an emulator."""

    def __init__(self, api) -> None:
        self.api = api

    def send(self, text: str, to: str = ONE, **options) -> httpx2.Response:
        message = {"to": to, "type": "text", "text": {"body": text}}
        return self.api.call("POST", "/v1/messages", json=message, **options)

    def page(self, href: str = "/dashboard", expected: int = 200, /, **query: str) -> Page:
        options = {"params": query} if query else {}
        answer = self.api.http.get(href, **options)
        assert answer.status_code == expected, answer.text
        return Page(answer)

    def details(self, answer: httpx2.Response) -> Page:
        return self.page(show=answer.headers["x-request-id"])


@pytest.fixture
def inbox(api):
    return Inbox(api)


@pytest.fixture
def busy(connect):
    """An inbox without limits, for many messages."""
    with Emulator(limits=False) as emulator:
        yield Inbox(connect(emulator))


# --- the empty inbox ------------------------------------------------------------------------


def test_an_empty_inbox_shows_how_a_first_message_is_sent_to_this_emulator(inbox):
    page = inbox.page()
    assert "No message yet" in page.text("inbox")
    assert f"--base-url {inbox.api.emulator.base_url}" in page.text("first-send")
    assert page.text("first-curl").startswith(f"curl {inbox.api.emulator.base_url}/v1/messages")


@pytest.mark.parametrize("send", ["first-curl", "first-send"])
def test_the_first_steps_work_in_a_fresh_shell_as_they_are_pasted(inbox, send):
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("not run: bash or curl is not installed")
    page = inbox.page()
    token = inbox.api.issue()["token"]
    steps = f"{raw(page.get('first-token'))}\n{token}\n{raw(page.get(send))}\n"
    shell(steps, program=["bash", "-s"])
    assert inbox.page().texts() == ["Hello from CMzon!"]


def test_every_first_step_can_be_copied(inbox):
    page = inbox.page()
    copied = {button.get("data-copy") for button in page.all("button[@data-copy]")}
    assert copied == {"first-token", "first-send", "first-curl"}
    assert all(page.has(source) for source in copied)


def test_after_a_reset_the_inbox_is_empty_again(inbox):
    inbox.send("gone")
    inbox.api.control("reset")
    assert "No message yet" in inbox.page().text("inbox")


# --- conversations --------------------------------------------------------------------------


def test_conversations_stand_newest_first_with_their_last_text_and_how_many_failed(inbox):
    inbox.send("first")
    inbox.send("other", to=TWO)
    inbox.send("second")
    inbox.send("refused", token="cmz_unknown_0123456789abcdef")
    (one, two) = inbox.page().conversations()
    assert re.fullmatch(r"\+1234567890 \d\d:\d\d:\d\d refused 1 failed of 3 messages", one)
    assert re.fullmatch(r"\+4915112345678 \d\d:\d\d:\d\d other of 1 message", two)


def test_a_conversation_shows_its_own_messages_only_in_their_order(inbox):
    inbox.send("first")
    inbox.send("other", to=TWO)
    inbox.send("second")
    page = inbox.page(inbox.page().href(ONE + "\n"))
    assert page.texts() == ["first", "second"]
    assert page.text("conversation-title") == ONE
    assert page.text("shown") == "2 messages, times in UTC"


def test_everything_shows_all_messages_each_with_its_number(inbox):
    inbox.send("first")
    inbox.send("other", to=TWO)
    page = inbox.page()
    assert page.texts() == ["first", "other"]
    assert [raw(bubble.find("b")) for bubble in page.bubbles()] == [ONE, TWO]


@pytest.mark.parametrize("body", ["not JSON", "[]", "{}", '{"to": 7}', '{"to": ""}', ""])
def test_requests_that_name_no_number_have_a_conversation_of_their_own(inbox, body):
    inbox.send("with a number")
    inbox.api.call("POST", "/v1/messages", content=body)
    page = inbox.page(inbox.page().href("no number"))
    assert page.text("conversation-title") == "Messages without a number"
    assert page.texts() == ["no text"]


def test_a_bubble_says_whether_the_message_was_accepted_and_what_was_odd_about_it(inbox, connect):
    inbox.send("twice", key="k")
    inbox.send("twice", key="k")
    inbox.api.fault(status=503, count=1)
    inbox.send("struck")
    texts = [words(bubble) for bubble in inbox.page(to=ONE).bubbles()]
    assert re.fullmatch(r"twice \d\d:\d\d:\d\d ✓ accepted", texts[0])
    assert "repeated: its Idempotency-Key had been used" in texts[1]
    assert re.fullmatch(r"struck fault: .*503.* \d\d:\d\d:\d\d ✗ 503", texts[2])


def test_a_field_that_was_ignored_is_named_once_above_the_messages_and_with_the_details(connect):
    with Emulator() as emulator:
        lenient = Inbox(connect(emulator))
        for extra in ({}, {"priority": 1}, {"<b>": 2}, {"priority": 3}):
            message = {"to": ONE, "type": "text", "text": {"body": "x"}, **extra}
            answer = lenient.api.send(message=message)
        page, details = lenient.page(), lenient.details(answer).text("details")
        lenient.send("x", to=TWO)
        other = lenient.page(to=TWO)
    assert page.text("ignored") == "ignored: priority, ignored: <b>"
    assert [bubble.find("i") for bubble in page.bubbles()] == [None] * 4
    assert "ignored: priority" in details
    assert not other.has("ignored")


def test_a_bubble_tells_times_as_the_page_does(inbox):
    token = inbox.api.issue()
    inbox.api.revoke(token["id"])
    inbox.send("too late", token=token["token"])
    inbox.api.control("clock", advance=2 * 86400)
    inbox.send("much too late", token=token["token"])
    same_day, later = (raw(bubble.find("i")) for bubble in inbox.page().bubbles())
    assert re.fullmatch(r"token: revoked at \d\d:\d\d:\d\d", same_day)
    assert re.fullmatch(r"token: revoked at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", later)


def test_a_request_that_got_no_answer_is_shown_as_such(inbox):
    inbox.api.fault(reset=True, count=1)
    with pytest.raises(httpx2.TransportError):
        inbox.send("lost")
    page = inbox.page()
    (bubble,) = page.bubbles()
    assert "✗ no answer" in raw(bubble)
    assert bubble.get("class") == "bad"
    details = inbox.page(bubble.find("a").get("href")).text("details")
    assert "the connection was reset" in details
    assert "answered in" not in details


@pytest.mark.parametrize("fault", [{"reset": True}, {"status": 503}])
def test_a_message_whose_answer_was_lost_is_accepted_and_looks_like_it(inbox, fault):
    inbox.api.fault(**fault, after_accept=True, count=1)
    with contextlib.suppress(httpx2.TransportError):
        inbox.send("taken all the same")
    page = inbox.page(status="accepted")
    (bubble,) = page.bubbles()
    assert words(bubble).endswith("✓ accepted, answer lost")
    assert bubble.get("class") == "lost"
    assert "failed" not in page.text("conversations")
    details = inbox.page(bubble.find("a").get("href")).text("details")
    assert "Status ✓ accepted, answer lost" in details
    assert re.search("Message msg_[0-9a-f]{24}", details)
    assert inbox.page(status="failed").texts() == []


def test_a_refused_message_says_why_in_the_words_of_its_answer_or_in_better_ones(inbox):
    inbox.send("where to?", to="0123")
    inbox.send("who?", token="cmz_unknown_0123456789abcdef")
    inbox.api.fault(status=503, count=1)
    inbox.send("struck")
    (number, token, struck) = map(words, inbox.page().bubbles())
    assert re.search(
        r"to — a phone number like \+1234567890 is needed \d\d:\d\d:\d\d ✗ 400$", number
    )
    assert re.search(r"who\? token: unknown \d\d:\d\d:\d\d ✗ 401$", token)
    assert re.search(r"struck fault: status 503 \d\d:\d\d:\d\d ✗ 503$", struck)


def test_a_page_of_huge_texts_stays_small_and_the_details_have_the_whole_of_one(inbox):
    text = "x" * 4096
    for _ in range(20):
        answer = inbox.send(text)
    page = inbox.page()
    assert page.texts() == ["x" * 1000 + "…"] * 20
    assert len(page.answer.content) < 60_000
    assert raw(inbox.details(answer).get("message")) == text


def test_a_long_list_of_remarks_is_cut(connect):
    with Emulator() as emulator:
        lenient = Inbox(connect(emulator))
        extra = {f"field{n}": n for n in range(1000)}
        lenient.api.send(message={"to": ONE, "type": "text", "text": {"body": "x"}, **extra})
        page = lenient.page()
    assert len(page.text("ignored")) == 301


def test_messages_stand_in_blocks_which_keep_their_messages_when_more_arrive(busy):
    def blocks() -> dict[str, list[str]]:
        found = busy.page(limit="all").all("div[@id='bubbles']/ol")
        return {
            block.get("id"): [row.get("id") for row in block.findall("li[a]")] for block in found
        }

    for number in range(250):
        busy.send(f"message {number}")
    before = blocks()
    assert [len(block) for block in before.values()] == [99, 100, 51]
    busy.send("one more")
    after = blocks()
    assert list(after) == list(before)
    assert [after[name][: len(rows)] for name, rows in before.items()] == list(before.values())


def test_few_of_many_messages_stand_in_few_blocks(busy):
    for number in range(400):
        busy.send("x", to=ONE if number % 40 == 0 else TWO)
    assert len(busy.page(to=ONE).all("div[@id='bubbles']/ol")) == 1


def test_each_day_begins_with_its_date_also_when_the_clock_goes_back(inbox):
    for step in (0, 60 * 86400, -60 * 86400):
        inbox.api.control("clock", advance=step)
        inbox.send("x")
        inbox.send("y")
    page = inbox.page()
    dates = [raw(time) for time in page.all("li[@class='note']/time")]
    assert len(dates) == 3
    assert dates[0] == dates[2] < dates[1]
    assert_ids_are_unique(page)


# --- filters --------------------------------------------------------------------------------


@pytest.fixture
def mixed(inbox):
    """Messages that differ in number, token, status and text; and the second token."""
    other = inbox.api.issue(name="other")
    inbox.send("Grüße an ALLE")
    inbox.send("100% _off_", to=TWO, token=other["token"])
    inbox.send("dead", token="cmz_unknown_0123456789abcdef")
    inbox.api.fault(status=429, count=1)
    inbox.send("too many")
    inbox.api.fault(status=500, count=1)
    inbox.send("broken")
    return inbox, other


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ({"text": "GRÜSSE"}, ["Grüße an ALLE"]),
        ({"text": "%"}, ["100% _off_"]),
        ({"number": "4915"}, ["100% _off_"]),
        ({"status": "accepted"}, ["Grüße an ALLE", "100% _off_"]),
        ({"status": "4xx"}, ["dead", "too many"]),
        ({"status": "429"}, ["too many"]),
        ({"status": "401"}, ["dead"]),
        ({"status": "5xx"}, ["broken"]),
        ({"status": "none"}, []),
        ({"status": "4xx", "text": "many"}, ["too many"]),
        ({"status": "5xx", "to": TWO}, []),
        ({"token_id": "tok_unknown"}, []),
    ],
)
def test_filters_narrow_down_what_is_shown(mixed, query, texts):
    assert mixed[0].page(**query).texts() == texts


def test_messages_can_be_filtered_by_their_token_which_is_chosen_by_name(mixed):
    inbox, other = mixed
    page = inbox.page(token_id=other["id"])
    assert page.texts() == ["100% _off_"]
    (chosen,) = page.all("select[@id='token']/option[@selected]")
    assert raw(chosen) == f"other · …{other['id'][-6:]}"


def test_the_page_says_how_many_of_how_many_pass_the_filters(mixed):
    page = mixed[0].page(status="4xx")
    assert "2 of 5 messages" in page.text("inbox")
    assert len(page.conversations()) == 1


def test_filters_survive_in_every_link_and_in_the_form(mixed):
    page = mixed[0].page(status="4xx", text="many", to=ONE)
    links = [*page.all("ul[@id='conversations']//a"), *page.all("div[@id='bubbles']//a")]
    queries = [parse_qs(urlsplit(link.get("href")).query) for link in links]
    assert len(queries) == 3
    assert all(query["status"] == ["4xx"] and query["text"] == ["many"] for query in queries)
    assert page.get("text").get("value") == "many"
    assert [o.get("value") for o in page.all("option[@selected]")] == ["4xx"]
    assert [f.get("value") for f in page.all("input[@name='to']")] == [ONE]


def test_clear_takes_the_filters_away_and_stays_in_the_conversation(mixed):
    page = mixed[0].page(status="4xx", to=TWO)
    assert "2 elsewhere do" in page.text("nothing")
    assert mixed[0].page(page.href("Clear")).texts() == ["100% _off_"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"status": "abc"}, "status — one like 429"),
        ({"status": "0"}, "status — "),
        ({"status": "42x"}, "status — "),
        ({"status": "٤٢٩"}, "status — "),
        ({"limit": "x"}, "limit — a number from 1 to 10000"),
        ({"limit": "0"}, "limit — "),
        ({"limit": "-1"}, "limit — "),
        ({"limit": "10001"}, "limit — "),
        ({"limit": "9" * 5000}, "limit — "),
        ({"limit": "0" * 8 + "1" + "9" * 20}, "limit — "),
        ({"limit": "٣"}, "limit — "),
        ({"text": "x" * 201}, "text — longer than 200 characters"),
        ({"number": "1" * 201}, "number — longer than 200 characters"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_by_name(inbox, query, reason):
    inbox.send("x")
    assert reason in inbox.page(query_href(query), 400).text()


def query_href(query: dict[str, str]) -> httpx2.URL:
    return httpx2.URL("/dashboard", params=query)


# --- how much is shown ----------------------------------------------------------------------


def test_the_newest_200_are_shown_unless_more_are_asked_for_and_500_are_kept(busy):
    for number in range(520):
        busy.send(f"message {number}")
    page = busy.page(to=ONE)
    assert page.texts() == [f"message {number}" for number in range(320, 520)]
    assert page.text("shown") == "the newest 200 of 500 messages, times in UTC"
    assert "The newest 500 messages are kept, in memory." in page.text("inbox")
    older = busy.page(page.href("Show older"))
    assert len(older.texts()) == 400
    whole = busy.page(older.href("Show all"))
    assert whole.texts() == [f"message {number}" for number in range(20, 520)]
    assert not whole.has("older")


def test_more_tokens_than_can_be_chosen_from_are_said_to_be_left_out(inbox):
    for number in range(200):
        inbox.api.issue(name=f"token {number}")
    options = [raw(option) for option in inbox.page().all("select[@id='token']/option")]
    assert len(options) == 202
    assert options[1].startswith("token 199")
    assert options[-1] == "older ones: from their pages, under API Settings"


def test_the_newest_100_conversations_are_listed_and_the_others_found_by_number(busy):
    for number in range(110):
        busy.send("x", to=f"+49151000{number:03}")
    page = busy.page()
    assert len(page.conversations()) == 100
    assert "find others by their number" in page.text("more-conversations")
    assert len(busy.page(number="000003").conversations()) == 1


# --- one request and its answer -------------------------------------------------------------


def test_details_show_the_request_and_its_answer_as_sent_but_for_the_token(inbox):
    answer = inbox.send("hello", key="key-1", headers={"X-Trace": "abc", "Cookie": "session=1"})
    page = inbox.details(answer)
    request, response = raw(page.get("request")), raw(page.get("answer"))
    assert request.startswith("POST /v1/messages HTTP/1.1\n")
    assert re.search(r"(?mi)^authorization: Bearer <token [0-9a-f]{16}>$", request)
    assert re.search(r"(?mi)^x-trace: abc$", request)
    assert re.search(r"(?mi)^cookie: <hidden [0-9a-f]{16}>$", request)
    assert request.endswith("\n\n" + answer.request.content.decode())
    assert response.startswith("HTTP/1.1 200\n")
    assert f"x-request-id: {answer.headers['x-request-id']}\n" in response.lower()
    assert response.endswith("\n\n" + answer.text)
    assert inbox.api.emulator.admin_token not in page.answer.text


def test_details_say_when_how_long_with_which_token_and_from_where(inbox):
    token = inbox.api.issue(name="acme")
    answer = inbox.send("hello", token=token["token"], key="key-1")
    page = inbox.details(answer)
    facts = page.text("details")
    shown = re.search(r"Bearer <token ([0-9a-f]{16})>", raw(page.get("request")))
    assert f"acme {shown[1]} {token['id']}" in facts
    assert re.search(r"\d\d:\d\d:\d\d UTC, answered in \d+\.\d ms", facts)
    assert "From 127.0.0.1" in facts
    assert "Idempotency-Key key-1" in facts
    assert f"Request {answer.headers['x-request-id']} Message {answer.json()['id']}" in facts
    assert page.href("acme") == f"/dashboard/tokens/{token['id']}"


def test_details_begin_with_the_whole_text_decoded_and_to_be_copied(inbox):
    message = {"to": ONE, "type": "text", "text": {"body": "Grüße\nשלום 👩‍👩‍👧‍👦"}}
    content = json.dumps(message, ensure_ascii=True)
    answer = inbox.api.call("POST", "/v1/messages", content=content)
    page = inbox.details(answer)
    text = page.get("message")
    assert raw(text) == "Grüße\nשלום 👩‍👩‍👧‍👦"
    assert text.get("dir") == "auto"
    assert page.has("message")
    assert page.text("details").index("Grüße") < page.text("details").index("Status")
    assert page.all("button[@data-copy='message']")


def test_the_chosen_message_is_marked_and_leads_back_to_its_conversation(inbox):
    answer = inbox.send("hello")
    page = inbox.page(to=ONE, show=answer.headers["x-request-id"])
    (chosen,) = page.all("li[@aria-current]")
    assert raw(chosen.find("p")) == "hello"
    back = inbox.page(page.href("Back to the conversation"))
    assert back.texts() == ["hello"]
    assert "Choose a message" in back.text("details")


def test_a_request_that_is_not_kept_is_said_to_be_not_found(inbox):
    inbox.send("x")
    page = inbox.page(show="req_0000000000000000")
    assert "There is no request req_0000000000000000" in page.text("details")
    assert page.texts() == ["x"]


# --- as curl --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_shell_reads_the_curl_command_as_the_request_that_was_sent(inbox, text):
    answer = inbox.send(text, key="it's-k1;$(id)", headers={"X-Empty": ""})
    arguments = as_the_shell_reads(raw(inbox.details(answer).get("curl")))
    url, *rest = arguments
    headers = {rest[i + 1].lower() for i in range(len(rest)) if rest[i] == "-H"}
    assert url == f"{inbox.api.emulator.base_url}/v1/messages"
    assert rest[-2:] == ["--data-raw", answer.request.content.decode()]
    assert headers == {
        "authorization: bearer the token",
        "content-type: application/json",
        "idempotency-key: it's-k1;$(id)",
        "x-empty;",
    }


def test_the_copied_command_sends_the_request_again(inbox):
    if shutil.which("curl") is None:
        pytest.skip("not run: curl is not installed")
    command = raw(inbox.details(inbox.send("it's me", key="k")).get("curl"))
    answer = json.loads(shell(command, CMZON_API_TOKEN=inbox.api.emulator.admin_token))
    assert answer["status"] == "accepted"
    assert "repeated" in raw(inbox.page(to=ONE).bubbles()[1])


def test_a_second_command_sends_it_as_a_new_message(inbox):
    if shutil.which("curl") is None:
        pytest.skip("not run: curl is not installed")
    page = inbox.details(inbox.send("it's me", key="k"))
    assert "It repeats the Idempotency-Key" in page.text("details")
    command = raw(page.get("curl-new"))
    assert command.lower() == raw(page.get("curl")).lower().replace(
        " \\\n  -h 'idempotency-key: k'", ""
    )
    shell(command, CMZON_API_TOKEN=inbox.api.emulator.admin_token)
    assert inbox.api.messages() == 2


def test_a_request_without_an_idempotency_key_has_one_command(inbox):
    assert not inbox.details(inbox.send("x")).has("curl-new")


def test_a_body_that_names_a_file_is_sent_as_it_stands(inbox):
    answer = inbox.api.call("POST", "/v1/messages", content="@/etc/passwd")
    arguments = as_the_shell_reads(raw(inbox.details(answer).get("curl")))
    assert arguments[-2:] == ["--data-raw", "@/etc/passwd"]


def test_the_command_takes_the_token_to_this_emulator_whatever_host_the_request_named(inbox):
    answer = inbox.send("x", headers={"Host": "evil.example"})
    command = raw(inbox.details(answer).get("curl"))
    assert command.startswith(f"curl {inbox.api.emulator.base_url}/v1/messages \\\n")
    assert "evil.example" not in command


def test_a_request_without_a_token_is_repeated_without_one(inbox):
    answer = inbox.api.http.post("/v1/messages", json={})
    assert "Authorization" not in raw(inbox.details(answer).get("curl"))


def test_a_command_with_control_characters_says_that_it_is_not_the_same(inbox):
    answer = inbox.api.call("POST", "/v1/messages", content=b"\x1b]0;evil\x07 \x00")
    page = inbox.details(answer)
    assert "'␛]0;evil␇ ␀'" in raw(page.get("curl"))
    assert "Control characters are shown as pictures" in page.text("details")


def as_the_shell_reads(command: str) -> list[str]:
    """The arguments that ``curl`` gets from a POSIX shell."""
    printing = 'curl() { printf "%s\\0" "$@"; }\n'
    return shell(printing + command, CMZON_API_TOKEN="the token").split("\0")[:-1]


def shell(script: str, program: Sequence[str] = ("/bin/sh", "-s"), **environment: str) -> str:
    """What a shell says that is given a script on its standard input, as pasted."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(  # what the page shows, on purpose
        program,
        input=script.encode(),
        env={"PATH": path, "no_proxy": "*", **environment},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stdout.decode()


# --- hostile texts --------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_shown_as_it_stands_and_changes_nothing_around_it(inbox, text):
    plain = shape(inbox.details(inbox.send("plain")))
    inbox.api.control("reset")
    page = inbox.details(inbox.send(text))
    assert page.texts() == [text if len(text) <= 1000 else f"{text[:1000]}…"]
    assert raw(page.get("message")) == text
    assert json.loads(raw(page.get("request")).splitlines()[-1])["text"]["body"] == text
    assert text[:100].split() == raw(page.all("li/a//bdi")[1]).split()
    assert shape(page) == plain


def test_a_text_from_right_to_left_is_shown_as_a_phone_shows_it(inbox):
    text = "שלום\u200f! \u2068CMzon\u2069 \u200e100 ₪"
    page = inbox.details(inbox.send(text))
    assert page.texts() == [text]
    assert raw(page.get("message")) == text  # what is copied from there is what was sent
    assert text in page.conversations()[0]


def test_characters_that_turn_a_text_around_are_shown_as_marks(inbox):
    page = inbox.details(inbox.send("\u202egnp.exe\u202c"))
    assert page.texts() == ["⟨RLO⟩gnp.exe⟨PDF⟩"]
    assert raw(page.get("message")) == "⟨RLO⟩gnp.exe⟨PDF⟩"
    assert "\u202e" not in page.answer.text


def test_control_characters_which_html_cannot_hold_are_shown_as_pictures(inbox):
    inbox.send("a\x00b\x1bc\x7fd")
    assert inbox.page().texts() == ["a␀b␛c␡d"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_number_is_shown_as_it_stands_and_can_be_opened(inbox, text):
    inbox.api.send(message={"to": text, "type": "text", "text": {"body": "x"}})
    page = inbox.page()
    (number,) = page.all("span[@class='who']/bdi")
    assert raw(number) == text[:64]
    (link,) = page.all("ul[@id='conversations']/li[2]/a")
    assert inbox.page(link.get("href")).texts() == ["x"]
    assert_ids_are_unique(page)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_filters_are_shown_as_they_stand(inbox, text):
    inbox.send("x")
    query = {"text": text[:200], "number": text[:200], "token_id": text[:200]}
    page = inbox.page(to=text[:200], show=text[:200], **query)
    assert page.get("number").get("value").split() == text[:200].split()
    assert shape(page) == shape(inbox.page(to="x", show="x", text="x", number="x", token_id="x"))


def test_a_hostile_name_of_a_token_is_shown_as_it_stands(inbox):
    name = '"><script>alert(1)</script>'
    token = inbox.api.issue(name=name)
    page = inbox.details(inbox.send("x", token=token["token"]))
    assert name in page.text("details")
    assert not page.all("main//script")


def shape(page: Page) -> list[str]:
    """The elements of the page with the names of their attributes: what texts must not change."""
    return [f"{e.tag} {' '.join(sorted(e.attrib))}" for e in page.root.iter()]


# --- under TLS ------------------------------------------------------------------------------


def test_under_tls_every_command_names_the_ca_and_can_be_run_as_it_is_copied(connect):
    if shutil.which("curl") is None:
        pytest.skip("not run: curl is not installed")
    with Emulator(tls=True) as emulator:
        api = connect(emulator, verify=ssl.create_default_context(cafile=emulator.ca))
        inbox, trust = Inbox(api), ["--cacert", emulator.ca]
        empty = inbox.page()
        assert as_the_shell_reads(raw(empty.get("first-curl")))[:2] == trust
        assert f"--ca {emulator.ca} " in raw(empty.get("first-send"))
        details = inbox.details(inbox.send("x"))
        again = shell(raw(details.get("curl")), CMZON_API_TOKEN=emulator.admin_token)
        token = api.issue()["id"]
        paths = (*PAGES, f"/dashboard/tokens/{token}")
        twins = {path: twins_on(inbox.page(path)) for path in paths}
    assert json.loads(again)["status"] == "accepted"
    assert [path for path, found in twins.items() if not found] == []
    assert {tuple(twin[:2]) for found in twins.values() for twin in found} == {tuple(trust)}


def twins_on(page: Page) -> list[list[str]]:
    """The arguments of each ``curl`` that is shown beside a form."""
    twins = [raw(code) for code in page.all("details[@class='twin']/pre/code")]
    return [shlex.split(twin)[1:] for twin in twins]


# --- cleared --------------------------------------------------------------------------------


def test_messages_are_cleared_by_a_form_and_the_counts_stay(inbox):
    inbox.send("gone")
    page = inbox.page()
    (form,) = page.all("form[@action='/dashboard/messages/clear']")
    assert "curl -X DELETE" in words(form)
    csrf = form.find("input[@name='csrf']").get("value")
    answer = inbox.api.http.post(form.get("action"), data={"csrf": csrf})
    assert answer.status_code == 303
    cleared = inbox.page(answer.headers["location"])
    assert "The messages were cleared." in cleared.text()
    assert "No message yet" in cleared.text("inbox")
    assert inbox.api.messages() == 1


def test_messages_are_not_cleared_without_the_forms_own_value(inbox):
    inbox.send("stays")
    answer = inbox.api.http.post("/dashboard/messages/clear", data={"csrf": "x"})
    assert answer.status_code == 403
    assert inbox.page().texts() == ["stays"]


# --- what the script and the security policy build on ----------------------------------------


def test_the_page_follows_messages_and_tokens_and_what_is_typed_lies_outside_what_changes(inbox):
    inbox.send("x")
    page = inbox.page(show="unknown")
    (body,) = page.all("body")
    assert {"messages", "tokens", "rehearsal"} <= set(body.get("data-topics").split())
    live = [element for element in page.root.iter() if element.get("data-live") is not None]
    assert [element.get("id") for element in live] == ["banner", "inbox"]
    fields = [f for part in live for tag in ("form", "input", "select") for f in part.iter(tag)]
    assert fields == []


def test_a_keyboard_gets_to_the_messages_past_the_conversations(inbox):
    inbox.send("x")
    page = inbox.page()
    assert [link.get("href") for link in page.all("a[@class='skip']")] == ["#main", "#screen"]
    assert page.get("screen").get("tabindex") == "0"


def test_what_was_there_before_keeps_its_id_when_more_arrives(inbox):
    inbox.send("first")
    before = {raw(b.find("p")): b.get("id") for b in inbox.page().bubbles()}
    inbox.send("second")
    after = {raw(b.find("p")): b.get("id") for b in inbox.page().bubbles()}
    assert before.items() <= after.items()
    assert len(set(after.values())) == 2


def test_pages_have_neither_inline_styles_nor_inline_scripts(mixed):
    page = mixed[0].page(status="4xx", show="unknown")
    assert page.all("style") == []
    assert [script.get("src") for script in page.all("script")] == ["/dashboard/script.js"]
    names = {name for element in page.root.iter() for name in element.attrib}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_the_banner_of_faults_is_on_the_page_while_one_is_in_force(inbox):
    inbox.api.fault(status=503, count=1)
    assert "1 fault is in force" in inbox.page().text("banner")
    inbox.send("struck")
    assert inbox.page().text("banner") == ""


def test_the_newest_two_hundred_tokens_can_be_chosen_and_the_list_says_that_there_are_more(inbox):
    def offered() -> list[Element]:
        return inbox.page().get("token").findall("option")[1:]  # the first one is all

    made = [inbox.api.issue()["id"] for _ in range(199)]  # and the admin token
    assert [option.get("value") for option in offered()][:199] == made[::-1]
    assert len(offered()) == 200
    made.append(inbox.api.issue()["id"])
    *tokens, last = offered()
    assert [token.get("value") for token in tokens] == made[::-1]
    assert "disabled" in last.attrib


def test_the_script_never_makes_markup_from_a_string():
    script = (FOLDER / "static" / "script.js").read_text(encoding="utf-8")
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|Function\("
    assert re.findall(sinks, script) == []
    assert len(script.splitlines()) <= 300


def test_the_twin_of_a_form_is_quoted_for_a_shell():
    parts = (
        make_environment(FOLDER / "templates").get_template("parts.html").make_module({"ca": None})
    )
    twin = parts.twin("POST", "http://127.0.0.1:1/x?a='b'", '{"name": "it\'s <b>"}')
    (_, command, _) = re.split("</?code>", str(twin))
    assert "<b>" not in command
    unescaped = command.replace("&#39;", "'").replace("&#34;", '"').replace("&lt;", "<")
    arguments = as_the_shell_reads(unescaped.replace("&gt;", ">"))
    assert arguments[0] == "http://127.0.0.1:1/x?a='b'"
    assert arguments[-1] == '{"name": "it\'s <b>"}'


def assert_ids_are_unique(page: Page) -> None:
    ids = [e.get("id") for e in page.root.iter() if e.get("id") is not None]
    assert len(ids) == len(set(ids))
