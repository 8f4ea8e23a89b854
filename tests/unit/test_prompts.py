"""Asking a person for a secret."""

import getpass
import threading

from cmzon_secrets.prompts import ask_unseen


def test_two_that_ask_at_once_do_so_one_after_the_other(monkeypatch):
    asking = 0
    together = []

    def pretend(prompt, stream=None):
        nonlocal asking
        asking += 1
        together.append(asking)
        threading.Event().wait(0.02)  # long enough for all others to come
        asking -= 1
        return "typed"

    monkeypatch.setattr(getpass, "getpass", pretend)
    asked = [
        threading.Thread(target=ask_unseen, args=("? ",), kwargs={"what": "it", "hint": ""})
        for _ in range(8)
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    assert together == [1] * 8
