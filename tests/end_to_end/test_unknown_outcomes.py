"""A message that the API took before it failed: sent again only where that cannot become a second one."""

import json
import urllib.request

import pytest

from cmzon_secrets import Client
from cmzon_secrets.errors import APIError, ServerError, TransportError

TO, TEXT = "+4915112345678", "Hello"


@pytest.fixture
def fault(cmzon_emulator):
    """What goes wrong once with a message that was taken."""

    def put(**facts):
        request = urllib.request.Request(
            f"{cmzon_emulator.base_url}/_emulator/faults",
            json.dumps(
                {"route": "POST /v1/messages", "after_accept": True, "count": 1, **facts}
            ).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()

    return put


@pytest.fixture
def client(cmzon_emulator, monkeypatch):
    """A function: a client with this view of idempotency keys."""
    monkeypatch.setenv("CMZON_API_TOKEN", cmzon_emulator.admin_token)
    opened = []

    def open_client(idempotency):
        opened.append(
            Client("env:CMZON_API_TOKEN", base_url=cmzon_emulator.base_url, idempotency=idempotency)
        )
        return opened[-1]

    yield open_client
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("facts", "idempotency", "error"),
    [
        ({"reset": True}, "off", TransportError),
        ({"reset": True}, "send", TransportError),
        ({"status": 504}, "send", ServerError),
        ({"status": 500}, "off", ServerError),
    ],
)
def test_it_is_reported_and_not_sent_again(
    client, fault, cmzon_emulator, facts, idempotency, error
):
    fault(**facts)
    with pytest.raises(error) as caught:
        client(idempotency).send_message(TO, TEXT)
    assert isinstance(caught.value, APIError)
    assert (caught.value.may_have_been_sent, caught.value.attempts) == (True, 1)
    assert cmzon_emulator.stats()["messages"] == 1


@pytest.mark.parametrize(
    ("facts", "idempotency"),
    [({"reset": True}, "trust"), ({"status": 504}, "trust"), ({"status": 500}, "send")],
)
def test_it_is_sent_again_with_its_key(client, fault, cmzon_emulator, facts, idempotency):
    fault(**facts)
    assert client(idempotency).send_message(TO, TEXT).attempts == 2
    stats = cmzon_emulator.stats()
    assert (stats["messages"], stats["distinct_idempotency_keys"]) == (1, 1)


def test_a_message_sent_as_any_request_has_a_key_too(client, fault, cmzon_emulator):
    fault(status=500)
    body = {"to": TO, "type": "text", "text": {"body": TEXT}}
    assert client("send").request("POST", "/v1/messages", json=body).status == 200
    assert cmzon_emulator.stats()["messages"] == 1
