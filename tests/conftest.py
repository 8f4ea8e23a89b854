"""What every run begins with."""

import signal
import sys

import pytest
from hypothesis import settings

pytest_plugins = ["servers.fixtures", "servers.closing_summary"]


settings.register_profile("any machine", deadline=None)  # a loaded one is slow, and not wrong
settings.load_profile("any machine")


def pytest_configure():
    # A shell that starts a run in the background ignores Ctrl-C for it and for all it starts, and
    # nohup the end of a session.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


SHARED = {"aws_sessions": "SESSIONS", "azure": "_SESSIONS", "vault": "_SESSIONS"}
"""Where each cloud keeps the sessions of this process."""


@pytest.fixture(autouse=True, scope="module")
def _sockets_of_no_other_module():
    """The next module's servers are others: what leads to the last one's is given back."""
    yield
    for module, name in SHARED.items():
        loaded = sys.modules.get(f"cmzon_secrets.clouds.{module}")
        if loaded is not None:
            getattr(loaded, name).clear()
