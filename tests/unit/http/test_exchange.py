"""What is known of a request that ran out of time before the engine asked for its body."""

import pytest

from cmzon_secrets.errors import TransportError
from cmzon_secrets.http.exchange import Exchange, Target


@pytest.mark.parametrize(
    ("method", "json", "unknown"), [("POST", {"to": "+1"}, False), ("POST", None, True)]
)
def test_a_head_that_is_the_whole_request_may_have_left_in_the_last_moment(method, json, unknown):
    target = Target("https://api.cmzon.com", 1.0, None)
    exchange = Exchange(target, method, "/v1/x", token=None, json=json, headers=None)
    exchange.failed(TimeoutError(), late=0.5)
    with pytest.raises(TransportError, match=r"none was whole within 0\.5 s") as caught:
        exchange.answer()
    assert caught.value.may_have_been_sent is unknown
