"""API Settings: the form that makes a token, the one answer that shows its value, list and pages."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
import pytest

PATH = "/dashboard/tokens"
FILLED = {
    "name": "acme",
    "scopes": ["messages:send", "audit:read"],
    "expires": "2592000",
    "expires_in": "",
    "allowed_ips": "127.0.0.1\r\n10.0.0.0/8",
}
PYTHONPATH = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
VOID = {"meta", "link", "input", "img", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    live: bool
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A page's elements in their order; ``text`` includes what stands in elements inside."""

    html: str
    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        inside_live = bool(self._open) and self._open[-1].live
        element = Element(tag, attributes, inside_live or "data-live" in attributes)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def value(self, name: str) -> str:
        return self.all("input", name=name)[0].attributes["value"] or ""

    def rows(self) -> dict[str, str]:
        """The texts of the list's rows by token id, in their order, spaces made one."""
        rows = [row for row in self.all("tr") if "id" in row.attributes]
        return {str(row.attributes["id"]): " ".join(row.text.split()) for row in rows}


def look(api: Any, path: str = PATH, **query: str) -> Page:
    answer = api.http.get(path, params=query or None)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def generate(api: Any, page: Page, **changed: Any) -> httpx2.Response:
    """Fill in the form of ``page`` and send it."""
    hidden = {"csrf": page.value("csrf"), "once": page.value("once")}
    return api.http.post(PATH, data=hidden | FILLED | changed)


def act(api: Any, page: Page, token_id: str, action: str) -> httpx2.Response:
    """Press one of a token's buttons on ``page``."""
    return api.http.post(f"{PATH}/{token_id}/{action}", data={"csrf": page.value("csrf")})


def value_in(answer: httpx2.Response) -> str:
    assert answer.status_code == 201, answer.text
    return Page(answer.text).one("code", id="value").text


def topics(page: Page) -> set[str]:
    return set(str(page.one("body").attributes["data-topics"]).split())


def events(page: Page) -> list[Element]:
    """The history on a token's page, newest first."""
    return [li for li in page.all("li") if "id" in li.attributes]


def words(element: Element) -> list[str]:
    return element.text.split()


def entries(api: Any, **query: str) -> list[dict[str, Any]]:
    return api.call("GET", "/v1/tokens", params=query).json()["data"]


def generated_id(answer: httpx2.Response) -> str:
    found = re.search(r"/dashboard/tokens/(tok_\w+)", answer.text)
    assert found is not None
    return found[1]


class TestGenerating:
    def test_the_form_is_headed_as_at_the_vendor_and_grants_sending_unless_told_otherwise(
        self, api: Any
    ) -> None:
        page = look(api)
        assert page.one("h1").text == "API Settings"
        assert page.one("h2", id="generate").text == "Generate New Token"
        assert [b.text for b in page.all("button")].count("Generate New Token") == 1
        checked = [e for e in page.all("input", type="checkbox") if "checked" in e.attributes]
        assert [e.attributes["value"] for e in checked] == ["messages:send"]

    def test_a_token_is_what_the_form_says_and_its_value_sends(self, api: Any) -> None:
        answer = generate(api, look(api))
        assert api.send(value_in(answer)).status_code == 200
        (entry,) = entries(api, name="acme")
        assert entry["id"] == generated_id(answer)
        assert entry["scopes"] == ["messages:send", "audit:read"]
        assert entry["expires_at"] is not None
        assert api.emulator.stats()["tokens"]["live"] == 2
        shown = look(api, f"{PATH}/{entry['id']}")
        assert {"127.0.0.1", "10.0.0.0/8"} <= {code.text for code in shown.all("code")}

    def test_the_answer_is_not_kept_by_the_browser_and_the_value_not_replaced_live(
        self, api: Any
    ) -> None:
        answer = generate(api, look(api))
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        page = Page(answer.text)
        assert not page.one("code", id="value").live
        assert [e.attributes["id"] for e in page.elements if "data-live" in e.attributes] == [
            "banner"
        ]

    @pytest.mark.parametrize(
        ("expires", "seconds", "expected"),
        [("", "", None), ("3600", "", 3600), ("custom", "90", 90), ("3600", "ignored", 3600)],
    )
    def test_the_expiry_is_the_one_selected(
        self, api: Any, expires: str, seconds: str, expected: int | None
    ) -> None:
        answer = generate(api, look(api), expires=expires, expires_in=seconds)
        times = [e for e in Page(answer.text).all("time") if "data-until" in e.attributes]
        made = api.emulator.stats()["tokens"]["live"]
        assert (answer.status_code, made) == (201, 2)
        if expected is None:
            assert not times
        else:
            until = float(str(times[0].attributes["data-until"]))
            now = float(str(Page(answer.text).one("body").attributes["data-now"]))
            assert until - now == pytest.approx(expected, abs=5)

    @pytest.mark.parametrize(
        ("changed", "control", "complaint"),
        [
            ({"name": ""}, {"id": "name"}, "Name — a string of 1 to 200 characters is needed"),
            ({"name": "x" * 201}, {"id": "name"}, "Name — a string of 1 to 200 characters"),
            ({"scopes": []}, {"value": "messages:send"}, "Permissions — at least one is needed"),
            ({"scopes": ["root"]}, {"value": "audit:read"}, "Permissions — unknown scope 'root'"),
            ({"expires": "custom"}, {"id": "seconds"}, "Seconds from now — a number is needed"),
            (
                {"expires": "custom", "expires_in": "soon"},
                {"id": "seconds"},
                "Seconds from now — a number is needed",
            ),
            (
                {"expires": "custom", "expires_in": "0"},
                {"id": "seconds"},
                "Seconds from now — a number from 1 to",
            ),
            ({"expires": "never"}, {"id": "seconds"}, "Seconds from now — a number is needed"),
            ({"allowed_ips": "10.0.0.300"}, {"id": "allowed"}, "IP allowlist — '10.0.0.300' is"),
        ],
    )
    def test_a_refusal_stands_beside_the_field_it_names_with_everything_kept(
        self, api: Any, changed: dict[str, Any], control: dict[str, str], complaint: str
    ) -> None:
        answer = generate(api, look(api), **changed)
        page = Page(answer.text)
        assert answer.status_code == 400
        assert page.one("p", id="wrong").text.startswith(complaint)
        (at_fault,) = [e for e in page.elements if control.items() <= e.attributes.items()]
        assert at_fault.attributes["aria-invalid"] == "true"
        assert "wrong" in str(at_fault.attributes["aria-describedby"]).split()
        assert sum("autofocus" in e.attributes for e in page.elements) == 1
        kept = FILLED | changed
        assert page.one("input", id="name").attributes["value"] == kept["name"]
        assert page.one("textarea").text.split() == kept["allowed_ips"].split()
        checked = [e for e in page.all("input", name="scopes") if "checked" in e.attributes]
        known = [scope for scope in kept["scopes"] if scope != "root"]
        assert [e.attributes["value"] for e in checked] == known
        assert api.emulator.stats()["tokens"]["live"] == 1

    def test_the_request_shown_with_a_new_token_is_the_one_that_makes_the_same(
        self, api: Any
    ) -> None:
        name = "o'hara'; touch /tmp/owned; echo '\u202egnp"
        answer = generate(api, look(api), name=name)
        (twin,) = [code for code in Page(answer.text).all("code") if code.text.startswith("curl")]
        words = shlex.split(twin.text.replace("\\\n", ""))
        body = words[words.index("-d") + 1]
        assert words[-1] == body  # nothing got out of the quotes
        again = api.call("POST", "/v1/tokens", content=body)
        assert again.json()["name"] == name
        assert again.json()["allowed_ips"] == ["127.0.0.1", "10.0.0.0/8"]


class TestWhatComesNext:
    def test_each_step_can_be_copied_and_works_in_a_fresh_shell(self, api: Any) -> None:
        page = Page(generate(api, look(api)).text)
        copied = [str(b.attributes["data-copy"]) for b in page.all("button", type="button")]
        steps = {source: page.one("pre", id=source).text for source in copied if source != "value"}
        keep = steps["keep"].splitlines()
        assert [line.split()[-2:] for line in keep[::2]] == [
            ["keygen", "emulator.key"],
            ["cmzon-secrets", "put"],  # it takes what follows for the value: nothing does
        ]
        assert "CMZON_TOKEN_URI=" in keep[1]
        assert f"export CMZON_BASE_URL={api.emulator.base_url}\n" in steps["send"]
        assert steps["read"] == "read -rs CMZON_API_TOKEN && export CMZON_API_TOKEN"
        assert "cmz_" not in "".join(steps.values())

    def test_they_are_enough_to_keep_the_token_and_to_send_with_it(
        self, api: Any, tmp_path: Path
    ) -> None:
        answer = generate(api, look(api))
        page = Page(answer.text)
        commands = "\n".join(page.one("pre", id=source).text for source in ("keep", "send"))
        program = Path(sys.executable).parent
        done = subprocess.run(
            ["sh", "-euc", commands],
            cwd=tmp_path,
            env={"PATH": f"{program}:/usr/bin:/bin", **PYTHONPATH},
            input=f"{value_in(answer)}\n",
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert api.messages() == 1


class TestOnce:
    def test_a_value_is_in_the_answer_that_made_it_and_in_no_other(self, api: Any) -> None:
        page = look(api)
        answer = generate(api, page)
        value = value_in(answer)
        assert answer.text.count(value) == 1
        api.send(value)
        act(api, page, generated_id(answer), "revoke")
        api.send(value)
        later = [generate(api, page), generate(api, page, name="other")]
        later += [api.call("GET", path) for path in ("/v1/tokens", "/v1/audit")]
        later += walked(api)
        assert len(later) > 8
        assert not [str(shown.url) for shown in later if value in shown.text + str(shown.headers)]

    def test_the_same_form_sent_again_makes_no_second_token_and_leads_to_the_first(
        self, api: Any
    ) -> None:
        page = look(api)
        made = generated_id(generate(api, page))
        again = generate(api, page)
        assert again.status_code == 303
        assert again.headers["location"].partition("?")[0] == f"{PATH}/{made}"
        shown = look(api, again.headers["location"])
        assert "has made this token already" in shown.one("p", **{"class": "notice"}).text
        assert len(entries(api, name="acme")) == 1

    def test_the_same_form_with_other_values_is_refused_and_works_at_the_next_try(
        self, api: Any
    ) -> None:
        page = look(api)
        generate(api, page)
        other = generate(api, page, name="other")
        shown = Page(other.text)
        assert other.status_code == 422
        assert "made a token already" in shown.one("p", role="alert").text
        assert shown.one("input", id="name").attributes["value"] == "other"
        assert entries(api, name="other") == []
        assert generate(api, shown, name="other").status_code == 201

    def test_a_name_of_which_nothing_can_be_seen_is_refused_beside_its_field(
        self, api: Any
    ) -> None:
        refused = generate(api, look(api), name="\u200b")
        assert refused.status_code == 400
        complaint = Page(refused.text).one("p", id="wrong").text
        assert complaint == "Name — no character of it can be seen"
        assert entries(api)[1:] == []

    def test_every_form_that_is_shown_has_a_key_of_its_own(self, api: Any) -> None:
        refused = Page(generate(api, look(api), name="").text)
        keys = {look(api).value("once"), look(api).value("once"), refused.value("once")}
        assert len(keys) == 3

    def test_a_form_of_another_site_makes_nothing(self, api: Any) -> None:
        page = look(api)
        form = FILLED | {"csrf": page.value("csrf"), "once": page.value("once")}
        foreign = {"Origin": "http://localhost:1"}
        refused = [
            api.http.post(PATH, data=form | {"csrf": "guessed"}),
            api.http.post(PATH, data=form, headers=foreign),
            api.http.post(f"{PATH}/{next(iter(page.rows()))}/revoke"),
        ]
        assert [answer.status_code for answer in refused] == [403, 403, 403]
        assert api.emulator.stats()["tokens"] == {"live": 1, "revoked": 0}


def walked(api: Any) -> list[httpx2.Response]:
    """Every page that links lead to, each once."""
    found: dict[str, httpx2.Response] = {}
    waiting = ["/dashboard"]
    while waiting:
        path = waiting.pop()
        if path in found or not path.startswith(("/dashboard", "/openapi")):
            continue
        found[path] = api.http.get(path)
        if found[path].headers["content-type"].startswith("text/html"):
            links = Page(found[path].text).all("a")
            waiting += [str(a.attributes["href"]).partition("#")[0] for a in links]
    return list(found.values())


class TestList:
    def test_the_newest_stands_first_or_names_order_it(self, api: Any) -> None:
        made = [api.issue(name=name)["id"] for name in ("beta", "alpha", "beta")]
        newest = [row for row in look(api).rows() if row in made]
        assert newest == made[::-1]
        by_name = [row for row in look(api, order="name").rows() if row in made]
        assert by_name == [made[1], made[2], made[0]]

    def test_it_is_filtered_by_part_of_a_name_by_id_by_fingerprint_and_by_life(
        self, api: Any
    ) -> None:
        shop, dead, other = (api.issue(name=name)["id"] for name in ("Shop 1", "shop 2", "x"))
        api.revoke(dead)
        codes = [code.text for code in look(api, f"{PATH}/{other}").all("code")]
        (digits,) = [code for code in codes if re.fullmatch(r"[0-9a-f]{16}", code)]
        assert list(look(api, token="SHOP").rows()) == [dead, shop]
        assert list(look(api, token="shop", live="1").rows()) == [shop]
        assert list(look(api, token=other).rows()) == [other]
        assert list(look(api, token=digits).rows()) == [other]
        assert look(api, token="nobody").rows() == {}

    def test_each_row_tells_what_the_traffic_shows(self, api: Any) -> None:
        old, new, waiting = api.issue(), api.issue(), api.issue()
        for token in (old, old, new):
            api.send(token["token"])
        rows = look(api).rows()
        assert "previous" in rows[old["id"]]
        assert "current" in rows[new["id"]]
        assert "pending" in rows[waiting["id"]]
        assert "from 127.0.0.1 2" in rows[old["id"]]
        assert "not yet" in rows[waiting["id"]]
        assert "Revoke…" in rows[old["id"]]

    def test_a_token_made_by_hand_is_succeeded_by_those_of_a_rotation_of_its_name(
        self, api: Any
    ) -> None:
        by_hand, rotated = api.issue(), api.issue(name="acme-b4e13cb63452ab61")
        other = api.issue(name="acme-shop")
        for token in (by_hand, other, rotated):
            api.send(token["token"])
        rows = look(api).rows()
        assert "previous" in rows[by_hand["id"]]
        assert "current" in rows[rotated["id"]]
        assert "current" in rows[other["id"]]

    def test_a_dead_token_is_dimmed_tells_of_late_uses_and_offers_nothing(self, api: Any) -> None:
        token = api.issue()
        api.revoke(token["id"])
        for _ in range(3):
            api.send(token["token"])
        page = look(api)
        assert page.one("tr", id=token["id"]).attributes["class"] == "dead"
        row = page.rows()[token["id"]]
        assert "3 refused after death" in row
        assert "Revoke…" not in row

    def test_only_a_live_token_counts_down(self, api: Any) -> None:
        token = api.issue(expires_in=5_184_000)
        page = f"{PATH}/{token['id']}"
        expires = token["expires_at"]
        living = [look(api, path).all("time", datetime=expires) for path in (PATH, page)]
        assert [["data-until" in time.attributes for time in found] for found in living] == [
            [True],
            [True, False],
        ]
        api.revoke(token["id"])
        for path in (PATH, page):
            (time,) = look(api, path).all("time", datetime=expires)
            assert "data-until" not in time.attributes
            assert time.text.startswith(expires[:10])

    def test_the_admin_token_is_marked_and_revoking_it_says_what_it_breaks(self, api: Any) -> None:
        plain = api.issue()["id"]
        rows = look(api).rows()
        (admin,) = rows.keys() - {plain}
        assert "admin token" in rows[admin]
        assert "gets 401 until the account is reset" in rows[admin]
        assert "until the account is reset" not in rows[plain]

    def test_of_more_than_a_hundred_the_newest_are_shown_with_a_link_to_all(self, api: Any) -> None:
        made = [api.issue()["id"] for _ in range(101)]
        page = look(api, token="acme")
        assert list(page.rows()) == made[:0:-1]
        (link,) = [a for a in page.all("a") if a.text == "Show all 101"]
        everything = look(api, str(link.attributes["href"]))
        assert list(everything.rows()) == made[::-1]
        # A page this long is not made anew with every message.
        assert topics(page) == {"messages", "tokens", "rehearsal"}
        assert topics(everything) == {"tokens", "rehearsal"}

    def test_what_people_type_in_lies_outside_of_what_is_carried_over_live(self, api: Any) -> None:
        page = look(api)
        assert page.one("table").live
        typed_in = [
            e
            for e in page.elements
            if e.tag in ("input", "select", "textarea") and e.attributes.get("name") != "csrf"
        ]
        assert len(typed_in) > 8
        assert not [e.attributes for e in typed_in if e.live]


class TestOneToken:
    def test_its_page_has_its_history_and_the_ways_to_its_messages_and_the_audit_trail(
        self, api: Any
    ) -> None:
        token = api.issue()
        api.send(token["token"])
        page = look(api, f"{PATH}/{token['id']}")
        assert [words(li)[1] for li in events(page)] == ["Promoted", "First", "Issued"]
        links = {a.attributes["href"] for a in page.all("a")}
        assert {
            f"/dashboard?token_id={token['id']}",
            f"/dashboard/audit?token_id={token['id']}",
        } <= links

    def test_its_history_is_its_own_however_many_tokens_have_its_id_for_a_name(
        self, api: Any
    ) -> None:
        token = api.issue()
        for _ in range(101):
            api.issue(name=token["id"])
        page = look(api, f"{PATH}/{token['id']}")
        assert [words(li)[1] for li in events(page)] == ["Issued"]
        assert "In the audit trail" in [a.text for a in page.all("a")]

    def test_of_a_long_history_the_newest_hundred_are_shown_with_the_way_to_all(
        self, api: Any
    ) -> None:
        token = api.issue(key="once")
        for _ in range(101):
            api.issue(key="once")
        page = look(api, f"{PATH}/{token['id']}")
        assert [words(li)[1] for li in events(page)] == ["Repeated"] * 100
        assert "The newest 100." in page.one("section", aria_labelledby="history").text
        (link,) = [a for a in page.all("a") if a.text == "All in the audit trail"]
        everything = look(api, str(link.attributes["href"])).rows()
        assert len(everything) == 102
        assert f"{token['id']}" in list(everything.values())[-1]

    @pytest.mark.parametrize("action", ["revoke", "expire"])
    def test_an_action_kills_it_says_so_and_is_recorded_as_the_dashboards(
        self, api: Any, action: str
    ) -> None:
        token = api.issue()
        path = f"{PATH}/{token['id']}"
        answer = act(api, look(api, path), token["id"], action)
        assert answer.status_code == 303
        assert api.send(token["token"]).status_code == 401
        page = look(api, answer.headers["location"])
        assert page.one("p", **{"class": "notice"}).text
        newest = events(page)[0].text
        assert "by the token itself" in newest  # the late use
        assert "by dashboard from 127.0.0.1" in " ".join(page.one("ol").text.split())
        assert not page.all("button")  # nothing is left to be done

    def test_each_action_shows_its_twin(self, api: Any) -> None:
        token = api.issue()
        page = look(api, f"{PATH}/{token['id']}")
        base = api.emulator.base_url
        twins = [shlex.split(code.text.replace("\\\n", "")) for code in page.all("code")]
        assert ["curl", "-X", "POST", f"{base}/_emulator/tokens/{token['id']}/expire"] in twins
        bearer = ["-H", "Authorization: Bearer $CMZON_API_TOKEN"]
        assert ["curl", "-X", "DELETE", f"{base}/v1/tokens/{token['id']}", *bearer] in twins

    def test_an_unknown_one_is_a_page_that_says_so_without_repeating_what_was_asked(
        self, api: Any
    ) -> None:
        page = look(api)
        answers = [
            api.http.get(f"{PATH}/cmz_mistaken"),
            act(api, page, "cmz_mistaken", "revoke"),
            act(api, page, "cmz_mistaken", "expire"),
        ]
        for answer in answers:
            assert answer.status_code == 404
            assert Page(answer.text).one("h1").text == "Unknown token"
            assert "cmz_mistaken" not in answer.text


HOSTILE = {name: name for name in ("<script>alert(1)</script>", "{{ 7*7 }}", "é" * 200)} | {
    '"><img src=x onerror=alert(1)>': '"><img src=x onerror=alert(1)>',
    "\u202egnp.tnega\u2066": "⟨RLO⟩gnp.tnega⟨LRI⟩",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_a_hostile_name_is_shown_as_what_it_is_on_every_page(
    api: Any, name: str, shown: str
) -> None:
    made = generate(api, look(api), name=name)
    refused = generate(api, look(api), name=name, allowed_ips="nonsense")
    pages = [
        Page(made.text),
        look(api),
        look(api, f"{PATH}/{generated_id(made)}"),
        look(api, token=name),
        Page(refused.text),
    ]
    for page in pages:
        assert shown in [bdi.text for bdi in page.all("bdi")]
        assert (len(page.all("script")), len(page.all("img"))) == (1, 1)
        assert not [e for e in page.elements if any(a.startswith("on") for a in e.attributes)]
    assert pages[3].one("input", id="token").attributes["value"] == name
    assert pages[4].one("input", id="name").attributes["value"] == name


def test_a_name_of_control_characters_is_shown_as_pictures(api: Any) -> None:
    token = api.issue(name="a\x00\x1bb")
    assert "a\u2400\u241bb" in [bdi.text for bdi in look(api).all("bdi")]
    assert "\x1b" not in api.http.get(f"{PATH}/{token['id']}").text
