"""Whoever uses the API while people look at the dashboard."""

import pytest

from browser.callers import Caller


@pytest.fixture
def calling():
    """A function that makes the caller of an emulator which the test itself starts."""
    callers = []

    def caller(base_url, admin_token):
        callers.append(Caller(base_url, admin_token))
        return callers[-1]

    yield caller
    for caller in callers:
        caller.close()


@pytest.fixture
def api(cmzon_emulator, calling):
    return calling(cmzon_emulator.base_url, cmzon_emulator.admin_token)
