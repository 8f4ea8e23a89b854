"""``interposed`` calls a step around each call and leaves nothing behind."""

import os

import pytest

from cmzon_secrets.testing import interposed


class Backend:
    def read(self, what):
        return f"read {what}"


class Inherits(Backend):
    pass


def test_a_step_is_taken_before_and_after_each_call():
    steps = []
    with interposed(lambda: steps.append(len(steps)), Backend, "read"):
        assert Backend().read("x") == "read x"
        assert steps == [0, 1]
    Backend().read("x")
    assert steps == [0, 1]


def test_a_step_that_raises_is_a_crash_before_the_call():
    def crash():
        raise KeyboardInterrupt

    with interposed(crash, os, "unlink"), pytest.raises(KeyboardInterrupt):
        os.unlink("/nonexistent")


@pytest.mark.parametrize("owner", [Backend, Inherits, Inherits()])
def test_everything_is_as_before_even_after_a_crash(owner):
    before = dict(vars(owner))
    with pytest.raises(ZeroDivisionError), interposed(lambda: 1 / 0, owner, "read"):
        (owner() if isinstance(owner, type) else owner).read("x")
    assert dict(vars(owner)) == before


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(AttributeError), interposed(print, Backend, "write"):
        pass
