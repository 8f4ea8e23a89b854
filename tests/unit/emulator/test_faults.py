"""Faults set at POST /_emulator/faults."""

import socket
import ssl
import threading
import time

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.faults import Fault, Faults

ROUTE = "POST /v1/messages"
MESSAGE = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}
BROKEN = (httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.WriteError)


def statuses(api, n):
    return [api.send().status_code for _ in range(n)]


def test_a_status_strikes_as_often_as_asked_and_nothing_is_sent(api):
    api.fault(status=500, count=3)
    assert statuses(api, 4) == [500, 500, 500, 200]
    assert api.messages() == 1


def test_an_injected_answer_has_the_error_shape_the_headers_and_the_wait(api):
    api.fault(status=503, retry_after=2.5, count=1)
    answer = api.send()
    assert answer.json()["error"]["code"] == 503
    assert answer.json()["error"]["retry_after"] == 2.5
    assert answer.headers["retry-after"] == "3"
    assert "x-request-id" in answer.headers
    assert "x-ratelimit-remaining" in answer.headers


@pytest.mark.parametrize("status", [401, 403, 429])
def test_an_injected_401_403_or_429_looks_like_a_true_one(api, status):
    api.fault(status=status, count=1)
    true = {401: "Invalid API token", 403: "Insufficient permissions", 429: "Rate limit exceeded"}
    assert api.send().json()["error"]["message"] == true[status]


def test_a_burst_of_429_has_a_wait_of_one_second_where_none_is_given(api):
    api.fault(status=429, count=1)
    answer = api.send()
    assert answer.json() == {
        "error": {"code": 429, "message": "Rate limit exceeded", "retry_after": 1}
    }


def test_a_fault_strikes_its_own_route_only(api):
    api.fault(route="GET /v1/tokens", status=500)
    assert statuses(api, 1) == [200]
    assert api.call("GET", "/v1/tokens").status_code == 500
    assert api.call("GET", "/v1/tokens/self").status_code == 200


def test_a_fault_strikes_before_the_token_is_looked_at(api):
    api.fault(status=500, count=1)
    assert api.send("cmz_unknown").status_code == 500


def test_a_reset_kills_the_connection_without_an_answer_or_an_effect(api):
    api.fault(reset=True, count=1)
    with pytest.raises(BROKEN):
        api.send()
    assert api.messages() == 0
    assert api.stats()["by_status"] == {}
    assert statuses(api, 1) == [200]


def test_a_reset_after_accepting_loses_the_answer_but_not_the_message(api):
    api.fault(reset=True, after_accept=True, count=1)
    with pytest.raises(BROKEN):
        api.send(key="k1")
    assert api.messages() == 1
    assert api.send(key="k1").status_code == 200
    assert api.messages() == 1


def test_a_status_after_accepting_hides_that_the_request_took_effect(api):
    api.fault(status=500, after_accept=True, count=1)
    assert statuses(api, 1) == [500]
    assert api.messages() == 1


def test_a_token_may_be_issued_and_its_answer_lost(api):
    api.fault(route="POST /v1/tokens", reset=True, after_accept=True, count=1)
    with pytest.raises(BROKEN):
        api.issue(key="k1")
    assert api.stats()["tokens"]["live"] == 2
    api.issue(key="k1")
    assert api.stats()["tokens"]["live"] == 2


def test_after_accept_leaves_a_refused_request_its_answer_and_is_not_used_up(api):
    api.fault(status=500, after_accept=True, count=1)
    assert api.send(message={}).status_code == 400
    assert statuses(api, 2) == [500, 200]


def test_latency_delays_the_answer_and_the_request_takes_effect(api):
    api.fault(latency=0.3, count=1)
    started = time.monotonic()
    assert statuses(api, 1) == [200]
    assert time.monotonic() - started >= 0.3


def test_a_delayed_request_does_not_hold_up_the_others(api, connect):
    api.fault(latency=60, count=1)
    other = connect(api.emulator)
    delayed = []
    slow = threading.Thread(target=lambda: delayed.append(api.send().status_code))
    slow.start()
    while other.http.get("/_emulator/faults").json()["data"]:
        assert slow.is_alive()  # it has not been struck yet
    assert other.send().status_code == 200
    assert slow.is_alive()
    api.emulator.stop()  # ends the delay, not the request
    slow.join(timeout=20)
    assert delayed == [200]


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_gave_up_was_not_answered_though_its_message_was_accepted(connect, tls):
    with Emulator(tls=tls) as emulator:
        trusted = ssl.create_default_context(cafile=emulator.ca) if tls else False
        api = connect(emulator, verify=trusted)
        api.fault(latency=0.3, count=1)
        with pytest.raises(httpx2.ReadTimeout):
            api.call("POST", "/v1/messages", json=MESSAGE, timeout=0.1)
        entry = emulator.wait_for_message(status="none", timeout=5)
        assert entry["accepted"]
        assert entry["notes"] == ["fault: 0.3 s latency", "the client had left"]
        assert entry["response"] == {"headers": [], "body": ""}
        assert api.stats()["by_status"] == {}
        recorded = api.call("GET", "/v1/audit").json()["data"]
        assert [each["status"] for each in recorded] == [None]


def test_a_client_that_waits_and_sends_on_over_the_same_connection_is_there(api):
    api.fault(latency=0.05)
    assert statuses(api, 3) == [200, 200, 200]
    entries = api.http.get("/_emulator/messages").json()["data"]
    assert [(each["status"], each["notes"]) for each in entries] == [
        (200, ["fault: 0.05 s latency"])
    ] * 3


def test_requests_that_came_together_over_one_connection_are_all_answered(api):
    api.fault(latency=0.02)
    port = int(api.emulator.base_url.rsplit(":", 1)[1])
    request = f"GET /v1/tokens/self HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as together:
        together.sendall(request * 3)
        received = b""
        while received.count(b"HTTP/1.1 401") < 3:
            received += together.recv(65536)
    recorded = api.call("GET", "/v1/audit").json()["data"]
    assert [each["status"] for each in recorded] == [401, 401, 401]


def test_two_statuses_come_one_after_the_other(api):
    api.fault(status=500, count=2)
    api.fault(status=429, count=1)
    assert statuses(api, 4) == [500, 500, 429, 200]


def test_a_delay_and_a_status_strike_together(api):
    api.fault(latency=0.2, count=1)
    api.fault(status=502, count=1)
    started = time.monotonic()
    assert statuses(api, 2) == [502, 200]
    assert time.monotonic() - started >= 0.2


def test_a_seed_makes_a_probability_repeatable_from_version_to_version(api):
    for _ in range(2):
        api.http.delete("/_emulator/faults")
        api.fault(status=500, probability=0.3, seed=7)
        struck = [number for number, status in enumerate(statuses(api, 30)) if status == 500]
        assert struck == [2, 6, 7, 18, 19, 21]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**53])
def test_of_many_requests_as_many_are_struck_as_the_probability_says(probability, seed):
    fault = Fault(ROUTE, status=500, probability=probability, seed=seed)
    struck = sum(fault.strikes() for _ in range(4000))
    assert struck / 4000 == pytest.approx(probability, abs=0.04)  # five standard deviations


def test_a_seed_that_was_not_given_is_another_each_time_and_told_so_that_the_run_can_be_repeated(
    api,
):
    seeds = [api.fault(status=500, probability=0.5)["seed"] for _ in range(5)]
    assert len(set(seeds)) == 5
    assert all(isinstance(seed, int) for seed in seeds)


def test_probability_zero_never_strikes_and_one_always_does():
    never = Fault(ROUTE, status=500, probability=0.0)
    always = Fault(ROUTE, status=500, probability=1.0)
    assert not any(never.strikes() for _ in range(100))
    assert all(always.strikes() for _ in range(100))


def test_a_fault_that_is_used_up_is_gone():
    faults = Faults()
    faults.add(Fault(ROUTE, status=500, count=1))
    faults.strike(ROUTE, None, accepted=False)
    assert list(faults) == []


def test_faults_are_listed_and_cleared(api):
    api.fault(status=500)
    api.fault(latency=0.5, count=2)
    listed = api.http.get("/_emulator/faults").json()["data"]
    assert [fault.get("status") for fault in listed] == [500, None]
    assert listed[1]["count"] == 2
    assert api.http.delete("/_emulator/faults").status_code == 204
    assert api.http.get("/_emulator/faults").json() == {"data": []}
    assert statuses(api, 1) == [200]


def test_the_example_of_the_contract_is_understood_as_it_stands(api):
    fault = {
        "route": "POST /v1/messages",
        "status": 500,
        "retry_after": 1,
        "latency": 0.2,
        "reset": True,
        "after_accept": True,
        "count": 3,
        "probability": 0.1,
        "seed": 7,
    }
    assert api.fault(**fault) == {
        "id": "flt_1",
        **fault,
        "drawn": 0,
        "struck": 0,
        "without_effect": ["status", "retry_after"],
    }


def test_a_reset_goes_before_the_answer_that_is_asked_for_beside_it(api):
    api.fault(reset=True, status=500, retry_after=1, count=1)
    with pytest.raises(BROKEN):
        api.send()
    assert api.messages() == 0
    assert api.http.get("/_emulator/messages").json()["data"][0]["notes"] == ["fault: reset"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"route": None}, "route"),
        ({"route": "POST /v1/message"}, "route"),
        ({"route": "POST /_emulator/reset"}, "route"),
        ({"status": 200}, "status"),
        ({"status": "500"}, "status"),
        ({"status": 500.5}, "status"),
        ({"status": None}, "status"),
        ({"retry_after": -1}, "retry_after"),
        ({"status": None, "latency": 1, "retry_after": 1}, "retry_after"),
        ({"latency": -1}, "latency"),
        ({"latency": 1e9}, "latency"),
        ({"reset": 1}, "reset"),
        ({"after_accept": "yes"}, "after_accept"),
        ({"count": 0}, "count"),
        ({"count": True}, "count"),
        ({"probability": 1.1}, "probability"),
        ({"seed": -1}, "seed"),
        ({"sattus": 500}, "sattus"),
    ],
)
def test_a_bad_field_is_named_and_no_fault_is_set(api, change, named):
    fault = {"route": ROUTE, "status": 500} | change
    answer = api.http.post("/_emulator/faults", json=fault)
    assert api.details(answer).startswith(f"{named} — ")
    assert api.http.get("/_emulator/faults").json() == {"data": []}
