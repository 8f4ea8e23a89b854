"""What every test in a browser has: whoever uses the API meanwhile, and the mark that it takes long."""

from pathlib import Path

import pytest

from browser.callers import Caller


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


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
