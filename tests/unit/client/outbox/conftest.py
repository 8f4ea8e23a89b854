"""An outbox of a client, of either kind; and what the server got, by key."""

from types import SimpleNamespace

import pytest

from cmzon_secrets.client.outbox import Outbox

TO, OTHER = "+12025550101", "+12025550102"


class AwaitedOutbox:
    """An AsyncOutbox as an Outbox: each method awaited."""

    def __init__(self, client, path, **options):
        self._client = client
        self._outbox = client.client.outbox(path, **options)

    def __getattr__(self, name):
        method = getattr(self._outbox, name)
        return lambda *args, **options: self._client.run(method(*args, **options))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "messages.outbox"


@pytest.fixture
def outbox(path):
    """Without a client."""
    with Outbox(path) as outbox:
        yield outbox


@pytest.fixture
def outbox_of(path):
    """The outbox of this client."""

    def opened(client, **options):
        if hasattr(client, "loop"):
            return AwaitedOutbox(client, path, **options)
        return client.outbox(path, **options)

    return opened


@pytest.fixture
def sender(client, outbox_of):
    """The outbox of the client."""
    outbox = outbox_of(client)
    yield outbox
    outbox.close()


@pytest.fixture
def got(server):
    """What the server was asked to send, in order: ``to``, ``text``, ``key``."""

    def messages():
        return [
            SimpleNamespace(
                to=request.json["to"],
                text=request.json["text"]["body"],
                key=request.headers.get("idempotency-key", [None])[0],
            )
            for request in list(server.received)
        ]

    return messages
