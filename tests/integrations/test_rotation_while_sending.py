"""Threads send with somebody else's HTTP library while their token is replaced: nobody sees a 401."""

import threading
from contextlib import contextmanager

import pytest

from unit.integrations.conftest import LIBRARIES

THREADS = 4
ROTATIONS = 3


@contextmanager
def sending(send):
    """``send`` over and over in several threads, until the block ends; what it gave is in the list."""
    given, over = [], threading.Event()

    def work():
        while not over.is_set():
            given.append(send())

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield given
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for(given, count):
    pause = threading.Event()
    for _ in range(500):
        if len(given) >= count:
            return
        pause.wait(0.01)
    pytest.fail(f"only {len(given)} answers")


@pytest.mark.parametrize("name", LIBRARIES)
def test_with_an_auth_object(sending_account, name):
    package = name.partition(" ")[0]
    pytest.importorskip(package, reason=f"not run: {package} (not installed)")
    library, base_url = LIBRARIES[name], sending_account.emulator.base_url
    auth = library.auth(sending_account.uri, base_url=base_url)
    with sending(lambda: library.send(auth, f"{base_url}/v1/messages").status) as statuses:
        for _ in range(ROTATIONS):
            wait_for(statuses, len(statuses) + THREADS)
            sending_account.replace()
        wait_for(statuses, len(statuses) + 2 * THREADS)
    auth.close()
    assert set(statuses) <= {200, 429}  # more than the vendor's 80 a second are refused
    assert sending_account.messages == statuses.count(200)


def test_with_the_class_of_the_vendors_page(sending_account):
    pytest.importorskip("requests", reason="not run: requests (not installed)")
    from cmzon_secrets.integrations.vendor_example import CMzonAPI

    api = CMzonAPI(sending_account.uri, base_url=sending_account.emulator.base_url)

    def send():
        try:
            return api.send_message("+1234567890", "Hello from CMzon!")["status"]
        except ValueError as error:
            return str(error)

    with sending(send) as outcomes:
        for _ in range(ROTATIONS):
            wait_for(outcomes, len(outcomes) + THREADS)
            sending_account.replace()
        wait_for(outcomes, len(outcomes) + 2 * THREADS)
    api.close()
    assert set(outcomes) <= {"accepted", "Rate limit exceeded"}
    assert sending_account.messages == outcomes.count("accepted")
