"""Loaded by schemathesis: what a document cannot say."""

import ipaddress
import json
import os

import httpx2
import schemathesis
from hypothesis import strategies as st

MESSAGE = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}
WISH = {"name": "acme", "scopes": ["messages:send"]}
LONGEST_WAIT = 300

networks = st.builds(
    lambda address, bits: str(ipaddress.ip_network((address, bits), strict=False)),
    st.ip_addresses(),
    st.integers(0, 32),
)
schemathesis.openapi.format("ip-network", st.ip_addresses().map(str) | networks)
http = httpx2.Client(
    base_url=os.environ["CMZON_BASE_URL"],
    headers={"Authorization": f"Bearer {os.environ['CMZON_ADMIN_TOKEN']}"},
    trust_env=False,
)
ADMIN_ID = http.get("/v1/tokens/self").raise_for_status().json()["id"]


@schemathesis.deserializer("application/x-ndjson")
def json_lines(context, response):
    """A list of what the lines hold."""
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def before_call(context, case, kwargs):
    """See to it that there is what is asked for, whatever was reset or put in force before."""
    if case.path.startswith("/_emulator/messages"):
        _name(case, "request_id", _done("/v1/messages", MESSAGE).headers["X-Request-Id"])
    if case.path.endswith("/expire"):
        _name(case, "id", _done("/v1/tokens", WISH).json()["id"])
    if case.path.endswith("/wait"):
        _wait_for_nothing(case)
    if case.path == "/v1/tokens/{id}" and case.path_parameters["id"] == ADMIN_ID:
        _name(case, "id", "tok_of_nobody")  # without its token all else would be 401


def _done(path, body):
    http.delete("/_emulator/faults")
    return http.post(path, json=body)


def _name(case, parameter, value):
    if parameter in case.path_parameters:
        case.path_parameters = {parameter: value}


def _wait_for_nothing(case):
    if isinstance(case.body, dict):
        seconds = case.body.get("timeout")
        if seconds is None or (type(seconds) in (int, float) and 0 < seconds <= LONGEST_WAIT):
            case.body["timeout"] = 0
