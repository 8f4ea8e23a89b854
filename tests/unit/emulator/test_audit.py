"""The audit trail at GET /v1/audit."""

from datetime import datetime


def entries(api):
    """The whole trail, page by page."""
    cursor, found = None, []
    while True:
        query = {"cursor": cursor} if cursor else {}
        answer = api.call("GET", "/v1/audit", params=query)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


def test_a_request_is_recorded_with_who_what_whence_and_the_answer(api):
    token = api.issue()
    answer = api.send(token["token"])
    entry = entries(api)[-1]
    assert datetime.fromisoformat(entry.pop("at")).utcoffset() is not None
    assert entry == {
        "method": "POST",
        "route": "POST /v1/messages",
        "status": 200,
        "token_id": token["id"],
        "ip": "127.0.0.1",
        "request_id": answer.headers["x-request-id"],
    }


def test_refused_failed_and_unknown_requests_are_recorded_too(api):
    api.send("cmz_unknown")
    api.send(message={})
    api.fault(status=500, count=1)
    api.send()
    api.http.get("/v1/nothing")
    recorded = [(entry["route"], entry["status"]) for entry in entries(api)]
    assert recorded == [
        *[("POST /v1/messages", status) for status in (401, 400, 500)],
        (None, 404),
    ]


def test_a_dead_token_is_recorded_by_its_id(api):
    token = api.issue()
    api.revoke(token["id"])
    api.send(token["token"])
    assert [(e["status"], e["token_id"]) for e in entries(api)][-1] == (401, token["id"])


def test_it_needs_audit_read(api):
    sender = api.issue(scopes=["messages:send", "tokens:manage"])["token"]
    auditor = api.issue(scopes=["audit:read"])["token"]
    assert api.call("GET", "/v1/audit", sender).status_code == 403
    assert api.call("GET", "/v1/audit", auditor).status_code == 200


def test_paging_shows_every_entry_once_oldest_first(api):
    for _ in range(250):
        api.call("GET", "/v1/tokens/self")
    found = entries(api)
    ids = [entry["request_id"] for entry in found]
    assert len(ids) == len(set(ids)) >= 250
    assert [entry["at"] for entry in found] == sorted(entry["at"] for entry in found)


def test_a_bad_cursor_is_refused(api):
    for cursor in ("x", "-1", "9" * 40):
        answer = api.call("GET", "/v1/audit", params={"cursor": cursor})
        assert api.details(answer).startswith("cursor — ")


def test_no_token_is_recorded_wherever_it_was_put(api):
    value = api.issue()["token"]
    api.revoke(value)  # the value where the id belongs
    api.http.get(f"/v1/{value}?token={value}")
    api.send(value)
    assert value not in str(entries(api))


def test_controls_are_not_part_of_the_api_and_not_recorded(api):
    api.stats()
    api.fault(status=500)
    assert entries(api) == []
