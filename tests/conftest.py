"""What every run begins with."""

import signal

pytest_plugins = ["servers.fixtures", "servers.closing_summary"]


def pytest_configure():
    # A shell that starts a run in the background ignores Ctrl-C for it and for all it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
