"""A request's head waits for its body, and never longer than until the answer is read."""

from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.http.outgoing import Outgoing


def test_head_and_body_leave_together():
    outgoing = Outgoing()
    assert outgoing.add(b"head\r\n\r\n") == b""
    assert outgoing.add(b"body") == b"head\r\n\r\nbody"
    assert outgoing.add(b"") == b""  # how the engine ends a body
    assert outgoing.rest() == b""


def test_a_head_without_a_body_leaves_before_the_answer_is_read():
    outgoing = Outgoing()
    assert outgoing.add(b"head\r\n\r\n") == b""
    assert outgoing.add(b"") == b"head\r\n\r\n"
    outgoing.rest()
    assert outgoing.add(b"next\r\n\r\n") == b""
    assert outgoing.rest() == b"next\r\n\r\n"


@given(st.lists(st.one_of(st.none(), st.binary(max_size=3))))
def test_nothing_is_lost_doubled_or_out_of_order(steps):
    """Pieces to write, and None for each time an answer is read."""
    outgoing, left = Outgoing(), b""
    for step in steps:
        left += outgoing.rest() if step is None else outgoing.add(step)
    assert left + outgoing.rest() == b"".join(step for step in steps if step)
