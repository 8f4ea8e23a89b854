"""/_emulator/* and the dashboard."""

import pytest

CONTROLS = [
    ("POST", "/_emulator/faults"),
    ("GET", "/_emulator/faults"),
    ("DELETE", "/_emulator/faults"),
    ("POST", "/_emulator/clock"),
    ("POST", "/_emulator/reset"),
    ("GET", "/_emulator/stats"),
    ("GET", "/dashboard"),
]


def test_stats_of_a_fresh_emulator_count_the_admin_token_only(api):
    assert api.stats() == {
        "messages": 0,
        "distinct_idempotency_keys": 0,
        "by_status": {},
        "tokens": {"live": 1, "revoked": 0},
        "max_per_sliding_second": 0,
    }


def test_stats_tell_what_happened(api):
    live, dead = api.issue(), api.issue()
    api.issue(expires_in=1)
    api.revoke(dead["id"])
    api.send(live["token"], key="k1")
    api.send(live["token"], key="k1")
    api.send(dead["token"], key="k2")
    api.control("clock", advance=2)
    stats = api.stats()
    assert stats["messages"] == 1
    assert stats["distinct_idempotency_keys"] == 1
    assert stats["by_status"] == {"200": 2, "201": 3, "204": 1, "401": 1}
    assert stats["tokens"] == {"live": 2, "revoked": 1}
    assert stats["max_per_sliding_second"] == 1


def test_the_object_tells_the_same_stats(api):
    api.send()
    assert api.emulator.stats() == api.stats()


def test_the_clock_moves_both_ways_and_says_where_it_is(api):
    assert api.control("clock", advance=3600.5)["shift"] == 3600.5
    assert api.control("clock", advance=-3700)["shift"] == -99.5


@pytest.mark.parametrize("advance", [None, "3600", True, 1e300, -1e300])
def test_a_shift_that_is_none_is_refused(api, advance):
    answer = api.http.post("/_emulator/clock", json={"advance": advance})
    assert api.details(answer).startswith("advance — ")


def test_the_clock_cannot_leave_the_calendar_by_small_steps_either(api):
    api.control("clock", advance=90 * 366 * 86400)
    answer = api.http.post("/_emulator/clock", json={"advance": 90 * 366 * 86400})
    assert api.details(answer).startswith("advance — ")
    assert api.send().status_code == 200


def test_reset_forgets_everything_but_the_admin_token(api):
    fresh = api.stats()
    token = api.issue(key="k1")
    api.send(token["token"], key="k2")
    api.fault(status=500)
    api.control("clock", advance=86400)
    api.control("reset")
    assert api.stats() == fresh
    assert api.send(token["token"]).status_code == 401
    assert api.send(key="k2").status_code == 200
    assert api.issue(key="k1")["id"] != token["id"]
    assert api.control("clock", advance=0)["shift"] == 0
    assert api.call("GET", "/v1/audit").json()["data"][0]["status"] == 401


def test_after_a_reset_the_days_quota_is_whole_again(api):
    for _ in range(2):
        assert api.send().headers["x-ratelimit-remaining"] == "9999"
        api.control("reset")


def test_reset_revives_a_revoked_admin_token(api):
    admin = api.call("GET", "/v1/tokens/self").json()
    api.revoke(admin["id"])
    assert api.call("GET", "/v1/tokens").status_code == 401
    api.control("reset")
    assert api.call("GET", "/v1/tokens").status_code == 200


@pytest.mark.parametrize(("method", "path"), CONTROLS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "[::1"},
        {"Host": "192.168.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_control_is_refused_where_a_foreign_page_may_have_sent_it(api, method, path, headers):
    answer = api.http.request(method, path, headers=headers, json={"advance": 5})
    assert api.details(answer, 403).startswith(next(iter(headers)))


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:80"])
def test_every_name_of_this_machine_may_control(api, host):
    answer = api.http.get("/_emulator/stats", headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "nearest"),
    [
        ("POST", "/v1/message", ["POST /v1/messages"]),
        ("POST", "/v1/messages/", ["POST /v1/messages"]),
        ("POST", "/v2/messages", ["POST /v1/messages"]),
        ("GET", "/v1/token", ["GET /v1/tokens", "POST /v1/tokens", "GET /v1/tokens/self"]),
        ("GET", "/_emulator/stat", ["GET /_emulator/stats"]),
        ("POST", "/_emulator/wait", ["POST /_emulator/messages/wait"]),
        ("GET", "/dashbord", ["GET /dashboard"]),
        ("GET", "/audit", ["GET /v1/audit", "GET /dashboard/audit"]),
        (
            *("POST", "/v1/tokens/tok_x/expire"),
            ["POST /_emulator/tokens/{id}/expire", "DELETE /v1/tokens/{id}"],
        ),
    ],
)
def test_an_unknown_route_is_404_and_names_the_nearest_known_ones(api, method, path, nearest):
    answer = api.http.request(method, path)
    several = "s" if len(nearest) > 1 else ""
    assert api.details(answer, 404) == f"Nearest known route{several}: {', '.join(nearest)}"
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("path", ["/v1/", "/v1/x", "/_emulator", "/v1/" + "x" * 60_000])
def test_below_a_known_path_some_known_route_is_the_nearest(api, path):
    assert api.details(api.http.get(path), 404).startswith("Nearest known route")


@pytest.mark.parametrize(
    "path", ["/x", "/favicon.ico", "/send", "/%00/%ff", "/" + "x" * 60_000, "/x/y" * 15_000]
)
def test_where_no_route_is_like_it_none_is_named_but_where_they_are(api, path):
    details = api.details(api.http.get(path), 404)
    assert details == "The API is below /v1, the dashboard for people at /dashboard"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/oauth/authorize?response_type=code"),
        ("POST", "/oauth/token"),
        ("GET", "/.well-known/oauth-authorization-server"),
    ],
)
def test_of_oauth_it_is_told_that_it_is_not_there(api, method, path):
    details = api.details(api.http.request(method, path), 404)
    assert details == "The OAuth server is not part of this version of the emulator"


def test_at_the_root_a_program_is_told_where_the_api_is_and_where_the_dashboard(api):
    details = api.details(api.http.get("/"), 404)
    assert details == "The API is below /v1, the dashboard for people at /dashboard"


def test_what_was_asked_for_is_not_repeated_where_it_may_hold_a_token(api):
    token = api.issue()["token"]
    for path in (f"/v1/tokens/{token}/revoke", f"/v1/message/{token}"):
        assert token not in api.http.post(path).text


def test_a_known_path_with_another_method_is_405_and_names_the_right_one(api):
    answer = api.http.get("/v1/messages")
    assert api.details(answer, 405) == "Nearest known route: POST /v1/messages"
    assert answer.headers["allow"] == "POST"


def test_a_known_path_with_another_method_names_every_right_one_and_no_other(api):
    answer = api.http.put("/_emulator/faults")
    routes = [f"{method} /_emulator/faults" for method in ("POST", "GET", "DELETE")]
    assert api.details(answer, 405) == f"Nearest known routes: {', '.join(routes)}"
