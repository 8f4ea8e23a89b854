"""POST /_emulator/limits, clock, tokens/{id}/expire, and faults one by one."""

import pytest

DAY = 86400


def statuses(api, n, token=None):
    return [api.send(token).status_code for _ in range(n)]


def expire(api, token_id):
    return api.http.post(f"/_emulator/tokens/{token_id}/expire")


def events(api, token_id):
    lines = api.http.get("/_emulator/audit.jsonl", params={"token": token_id}).text.splitlines()
    return [line.split('"event": "')[1].split('"')[0] for line in lines]


# --- limits ---------------------------------------------------------------------------------


def test_the_limits_are_the_vendors_until_they_are_changed(api):
    shown = api.http.get("/_emulator/limits").json()
    assert shown == {"per_second": 80, "per_day": 10_000, "accepted_today": 0}


def test_a_lower_limit_counts_what_was_sent_before_it(api):
    assert statuses(api, 3) == [200] * 3
    assert api.control("limits", per_day=4)["accepted_today"] == 3
    assert statuses(api, 2) == [200, 429]
    assert api.send().headers["x-ratelimit-limit"] == "4"


def test_a_limit_that_is_not_given_stays_and_null_lifts_one(api):
    assert api.control("limits", per_second=5)["per_day"] == 10_000
    shown = api.control("limits", per_day=None)
    assert (shown["per_second"], shown["per_day"]) == (5, None)
    answers = [api.send() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert "x-ratelimit-limit" not in answers[0].headers


def test_a_reset_brings_back_the_limits_of_the_start(api):
    api.control("limits", per_second=None, per_day=1)
    api.control("reset")
    assert api.control("limits", per_day=10_000)["per_second"] == 80


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "per_second"),
        ({"per_second": 0}, "per_second"),
        ({"per_day": -1}, "per_day"),
        ({"per_day": 1.5}, "per_day"),
        ({"per_day": "10"}, "per_day"),
        ({"per_second": True}, "per_second"),
        ({"per_second": 10**10}, "per_second"),
        ({"per_minute": 5}, "per_minute"),
        ({"per_second": 5, "per_day": 0}, "per_day"),
    ],
    ids=str,
)
def test_a_limit_that_is_none_is_named_and_nothing_changes(api, body, named):
    before = api.http.get("/_emulator/limits").json()
    answer = api.http.post("/_emulator/limits", json=body)
    assert api.details(answer).startswith(f"{named} — ")
    assert api.http.get("/_emulator/limits").json() == before


# --- the clock ------------------------------------------------------------------------------


def test_the_clock_can_be_read_without_moving_it(api):
    api.control("clock", advance=60 * DAY)
    first, second = (api.http.get("/_emulator/clock").json() for _ in range(2))
    assert first["shift"] == second["shift"] == 60 * DAY
    assert first["now"] <= second["now"]


def test_a_token_whose_time_is_over_by_the_clock_is_told_as_expired_once(api):
    token = api.issue(expires_in=30 * DAY)
    for advance in (60 * DAY, -60 * DAY, 60 * DAY):
        api.control("clock", advance=advance)
    assert events(api, token["id"]) == ["issued", "expired"]


# --- the end of a token's time --------------------------------------------------------------


def test_a_token_that_is_expired_by_hand_is_refused_from_then_on(api):
    token = api.issue(expires_in=30 * DAY)
    assert statuses(api, 1, token["token"]) == [200]
    entry = expire(api, token["id"]).raise_for_status().json()
    assert entry["id"] == token["id"]
    assert entry["expires_at"] < token["expires_at"]
    assert statuses(api, 1, token["token"]) == [401]
    assert events(api, token["id"])[-2:] == ["expired_now", "refused"]


@pytest.mark.parametrize("kill", ["revoke", "expire"])
def test_a_dead_token_is_not_expired_again(api, kill):
    token = api.issue()
    api.revoke(token["id"]) if kill == "revoke" else expire(api, token["id"])
    told, entry = events(api, token["id"]), expire(api, token["id"]).json()
    assert expire(api, token["id"]).json() == entry
    assert events(api, token["id"]) == told


def test_an_unknown_token_cannot_be_expired(api):
    assert api.details(expire(api, "tok_unknown"), 404).startswith("token id — unknown")


def test_what_a_fault_did_is_told_with_it(api):
    api.fault(status=500, probability=0.0)
    api.fault(status=502)
    statuses(api, 3)
    never, always = api.http.get("/_emulator/faults").json()["data"]
    assert (never["drawn"], never["struck"]) == (3, 0)
    assert (always["drawn"], always["struck"]) == (3, 3)


@pytest.mark.parametrize("route", [None, "", "POST /v1/nowhere", "x" * 1000, 5])
def test_a_fault_of_no_route_is_told_which_routes_there_are(api, route):
    answer = api.http.post("/_emulator/faults", json={"route": route, "status": 500})
    assert api.details(answer).startswith("route — one of POST /v1/messages, POST /v1/tokens, ")


def test_a_new_fault_is_200_as_it_was_before_it_had_an_id(api):
    fault = {"route": "POST /v1/messages", "status": 500}
    assert api.http.post("/_emulator/faults", json=fault).status_code == 200


# --- one fault ------------------------------------------------------------------------------


def test_one_fault_is_ended_and_the_next_takes_its_place(api):
    first = api.fault(status=500)
    api.fault(status=502, count=1)
    assert statuses(api, 1) == [500]
    assert api.http.delete(f"/_emulator/faults/{first['id']}").status_code == 204
    assert statuses(api, 2) == [502, 200]


@pytest.mark.parametrize("fault_id", ["flt_9", "flt_", "x", "%2F"])
def test_ending_a_fault_that_is_not_there_is_no_error_and_ends_no_other(api, fault_id):
    api.fault(status=500)
    assert api.http.delete(f"/_emulator/faults/{fault_id}").status_code in (204, 404)
    assert statuses(api, 1) == [500]


def test_a_fault_of_one_token_leaves_the_others_alone(api):
    old, new = api.issue(), api.issue()
    assert api.fault(status=503, token=old["id"])["token"] == old["id"]
    assert statuses(api, 2, old["token"]) == [503, 503]
    assert statuses(api, 1, new["token"]) == [200]
    assert api.send("cmz_unknown").status_code == 401


def test_a_fault_of_one_token_is_not_used_up_by_the_others(api):
    old, new = api.issue(), api.issue()
    api.fault(status=503, token=old["id"], count=1)
    assert statuses(api, 3, new["token"]) == [200] * 3
    assert statuses(api, 2, old["token"]) == [503, 200]


@pytest.mark.parametrize("token", ["tok_unknown", "", 5, ["tok"]])
def test_a_fault_of_an_unknown_token_is_refused_by_name(api, token):
    fault = {"route": "POST /v1/messages", "status": 500, "token": token}
    answer = api.http.post("/_emulator/faults", json=fault)
    assert api.details(answer).startswith("token — ")
