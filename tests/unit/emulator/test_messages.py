"""POST /v1/messages."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

RATE_HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
HELLO = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}


def test_a_message_is_accepted_with_a_new_id_each_time(api):
    first, second = api.send(), api.send()
    assert first.status_code == second.status_code == 200
    assert first.json()["status"] == "accepted"
    assert first.json()["to"] == "+1234567890"
    assert first.json()["id"] != second.json()["id"]
    assert api.messages() == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="not run: curl is not installed")
def test_the_curl_example_of_the_vendor_page_works_as_printed(api):
    body = '{\n"to": "+1234567890",\n"type": "text",\n"text": {\n"body": "Hello from CMzon!"\n}\n}'
    said = subprocess.run(
        [
            *(
                "curl",
                "-sS",
                "--noproxy",
                "*",
                "-X",
                "POST",
                f"{api.emulator.base_url}/v1/messages",
            ),
            *("-H", f"Authorization: Bearer {api.issue()['token']}"),
            *("-H", "Content-Type: application/json", "-d", body),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status":"accepted"' in said.stdout
    assert api.messages() == 1


@pytest.mark.parametrize(
    ("token", "status"), [(None, 200), ("cmz_unknown", 401)], ids=["accepted", "refused"]
)
def test_every_answer_carries_a_request_id_and_the_days_quota(api, token, status):
    answer = api.send(token)
    assert answer.status_code == status
    assert set(answer.headers) >= RATE_HEADERS | {"x-request-id"}
    assert api.send(token).headers["x-request-id"] != answer.headers["x-request-id"]


def test_the_quota_headers_count_down_to_the_end_of_the_utc_day(api):
    first, second = api.send(), api.send()
    assert first.headers["x-ratelimit-limit"] == "10000"
    left = [int(answer.headers["x-ratelimit-remaining"]) for answer in (first, second)]
    assert left == [9999, 9998]
    resets_at = datetime.fromtimestamp(int(first.headers["x-ratelimit-reset"]), UTC)
    assert (resets_at.hour, resets_at.minute, resets_at.second) == (0, 0, 0)
    assert timedelta(0) < resets_at - datetime.now(UTC) <= timedelta(days=1)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic abc", "Bearer cmz_unknown", "Bearer é"],
)
def test_without_a_live_bearer_token_the_answer_is_401(api, authorization):
    answer = api.http.post(
        "/v1/messages", json=HELLO, headers={"Authorization": authorization.encode("latin-1")}
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_missing_authorization_header_or_a_doubled_one_is_401(api):
    token = api.issue()["token"]
    doubled = [("Authorization", f"Bearer {token}")] * 2
    assert api.http.post("/v1/messages", json=HELLO).status_code == 401
    assert api.http.post("/v1/messages", json=HELLO, headers=doubled).status_code == 401


def test_the_bearer_scheme_may_be_in_any_case(api):
    answer = api.http.post(
        "/v1/messages", json=HELLO, headers={"Authorization": f"bEaReR {api.issue()['token']}"}
    )
    assert answer.status_code == 200


def test_an_empty_body_tells_a_dead_token_from_a_live_one_and_sends_nothing(api):
    live, dead = api.issue(), api.issue()
    unfit = api.issue(scopes=["audit:read"])
    api.revoke(dead["id"])
    answers = [api.send(token["token"], message={}) for token in (live, dead, unfit)]
    assert [answer.status_code for answer in answers] == [400, 401, 403]
    assert api.messages() == 0


@pytest.mark.parametrize("scope", ["messages:send", "whatsapp_business"])
def test_either_messaging_scope_lets_a_token_send(api, scope):
    assert api.send(api.issue(scopes=[scope])["token"]).status_code == 200


@pytest.mark.parametrize("scope", ["tokens:manage", "audit:read"])
def test_no_other_scope_does(api, scope):
    assert api.send(api.issue(scopes=[scope])["token"]).status_code == 403


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"to": None}, "to"),
        ({"to": 1234567890}, "to"),
        ({"to": "1234567890"}, "to"),
        ({"to": "+1234567890\n"}, "to"),
        ({"to": "+12345678901234567"}, "to"),
        ({"type": None}, "type"),
        ({"type": "image"}, "type"),
        ({"text": None}, "text"),
        ({"text": "Hello"}, "text"),
        ({"text": {}}, "text.body"),
        ({"text": {"body": ""}}, "text.body"),
        ({"text": {"body": "x" * 4097}}, "text.body"),
        ({"text": {"body": "x", "preview": True}}, "text.preview"),
        ({"priority": 1}, "priority"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_sent(api, change, named):
    assert api.details(api.send(message=HELLO | change)).startswith(f"{named} — ")
    assert api.messages() == 0


def test_text_that_is_no_unicode_is_refused_and_any_other_is_taken(api):
    body = b'{"to": "+1234567890", "type": "text", "text": {"body": "%s"}}'
    broken = api.call("POST", "/v1/messages", content=body % rb"\ud83d")
    assert api.details(broken).startswith("text.body — ")
    assert (
        api.call("POST", "/v1/messages", content=body % rb"\ud83d\ude00\u0000").status_code == 200
    )


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"null", b'{"to": NaN}', b"[" * 50_000, b"\xff\xfe\x00"]
)
def test_what_is_not_a_json_object_is_refused(api, body):
    answer = api.call("POST", "/v1/messages", content=body)
    assert api.details(answer).startswith("body — ")


def test_a_body_that_is_too_long_is_refused_without_being_kept(api):
    answer = api.call("POST", "/v1/messages", content=b"x" * 200_000)
    assert api.details(answer, 413).startswith("body — ")
    assert api.send().status_code == 200


def test_the_same_key_and_body_give_the_same_answer_and_count_once(api):
    first, again = api.send(key="k1"), api.send(key="k1")
    assert again.json() == first.json()
    assert again.headers["x-ratelimit-remaining"] == first.headers["x-ratelimit-remaining"]
    assert api.messages() == 1
    assert api.stats()["distinct_idempotency_keys"] == 1


def test_a_key_is_recognised_when_it_comes_with_another_token(api):
    old, new = api.issue()["token"], api.issue()["token"]
    assert api.send(old, key="k1").json() == api.send(new, key="k1").json()
    assert api.messages() == 1


def test_a_key_used_with_another_body_is_refused(api):
    api.send(key="k1")
    answer = api.send(key="k1", message=HELLO | {"to": "+1987654321"})
    assert "Idempotency-Key" in api.details(answer, 422)
    assert api.messages() == 1


def test_a_refused_request_does_not_use_its_key_up(api):
    api.send(key="k1", message={})
    assert api.send(key="k1").status_code == 200


@pytest.mark.parametrize("key", ["", "with space", "x" * 256])
def test_a_key_that_is_none_is_refused(api, key):
    assert api.details(api.send(key=key)).startswith("Idempotency-Key — ")
