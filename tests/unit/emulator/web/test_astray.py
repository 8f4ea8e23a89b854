"""Addresses without a page: a browser finds its way, a program gets the API's own answer."""

import pytest

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
CLICK = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-User": "?1",
}


@pytest.mark.parametrize(
    ("path", "headers"), [("/", BROWSER), ("/dashboard/", BROWSER), ("/dashboard/", {})]
)
def test_a_browser_at_a_door_is_let_in(api, path, headers):
    answer = api.http.get(path, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (307, "/dashboard")
    assert answer.headers["cache-control"] == "no-store"


def test_a_program_at_the_root_is_told_where_everything_is(api):
    for method in ("GET", "POST"):
        details = api.details(api.http.request(method, "/"), 404)
        assert "/v1" in details
        assert "/dashboard" in details


@pytest.mark.parametrize(
    ("path", "nearest", "name"),
    [
        ("/dashboard/rotations", "/dashboard/rotation", "Rotation"),
        ("/dashboard/audit/", "/dashboard/audit", "Audit trail"),
        ("/dashboard/tokens/tok_x/nope", "/dashboard/tokens", "API Settings"),
        ("/dashboard/rehearsal/faults", "/dashboard/rehearse", "Rehearse"),
    ],
)
def test_an_unknown_page_names_the_nearest_ones_and_has_the_navigation(api, path, nearest, name):
    answer = api.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>Unknown page</h1>" in answer.text
    assert f'Perhaps you mean <a href="{nearest}">{name}</a>' in answer.text
    assert '<nav aria-label="Pages">' in answer.text
    assert "/v1" not in answer.text


def test_an_address_that_takes_a_form_says_so_to_who_looks_at_it(api):
    answer = api.http.get("/dashboard/tokens/tok_x/revoke")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "takes what a form sends" in answer.text
    assert '<a href="/dashboard/tokens">API Settings</a>' in answer.text


def test_what_was_asked_for_is_not_repeated(api):
    assert "mistaken" not in api.http.get("/dashboard/cmz_mistaken?x=cmz_mistaken").text


def test_another_site_may_link_here_and_do_no_more(api):
    assert api.http.get("/", headers=BROWSER | CLICK).status_code == 307
    foreign = {"Origin": "https://evil.example"}
    for path in ("/", "/dashboard/", "/dashboard/nope"):
        refused = api.http.get(path, headers=BROWSER | foreign)
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/json"
    assert api.http.post("/dashboard/nope", headers=CLICK).status_code == 403


def test_a_page_that_is_refused_leads_back_to_itself(api):
    answer = api.http.get("/dashboard/rotation?window=x")
    assert answer.status_code == 400
    assert '<a href="/dashboard/rotation">To Rotation</a>' in answer.text
