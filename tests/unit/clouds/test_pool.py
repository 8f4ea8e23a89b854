"""One session for each key, few of them, and none that keeps sockets for nobody."""

import gc
import os
import threading
import weakref

import pytest

from cmzon_secrets.clouds import aws_sessions, azure, pool, vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.clouds.pool import Pool
from cmzon_secrets.uri import split


class Session:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def sessions(monkeypatch):
    monkeypatch.setattr(pool, "KEPT", 2)
    return Pool()


def test_a_key_has_one_session(sessions):
    one = sessions.of("one", Session)
    assert sessions.of("one", Session) is one
    assert sessions.of("two", Session) is not one


def test_the_one_that_was_used_longest_ago_is_dropped_and_closed(sessions):
    first, second = sessions.of("first", Session), sessions.of("second", Session)
    sessions.of("first", Session)
    sessions.of("third", Session)
    assert (first.closed, second.closed) == (False, True)
    assert sessions.of("first", Session) is first
    assert sessions.of("second", Session) is not second


def test_what_is_forgotten_is_closed_and_made_anew(sessions):
    one, two = sessions.of("one", Session), sessions.of("two", Session)
    sessions.forget(one)
    assert (one.closed, two.closed) == (True, False)
    assert sessions.of("one", Session) is not one
    assert sessions.of("two", Session) is two


def test_clear_forgets_all(sessions):
    made = [sessions.of(key, Session) for key in "ab"]
    sessions.clear()
    assert all(session.closed for session in made)
    assert sessions.of("a", Session) not in made


def test_a_session_that_cannot_be_made_leaves_nothing(sessions):
    def fail():
        raise OSError

    with pytest.raises(OSError):
        sessions.of("one", fail)
    assert isinstance(sessions.of("one", Session), Session)


@pytest.mark.parametrize("inherited", [False, True])
def test_a_child_has_its_own_unless_they_see_to_themselves(inherited):
    sessions = Pool(inherited=inherited)
    parents = sessions.of("one", Session)
    with sessions._lock:  # as any other thread of the parent may hold it
        sessions.after_fork()
        assert (sessions.of("one", Session) is parents) is inherited
    assert not parents.closed


def test_many_threads_make_one_session():
    sessions, start, found = Pool(), threading.Barrier(8), []

    def use():
        start.wait()
        found.append(sessions.of("one", Session))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


# the three clouds


def of_aws(number):
    return aws_sessions.SESSIONS.session(aws_sessions.Place(region=f"eu-west-{number}"))


def of_azure(number):
    contoso = azure.Vault("contoso.vault.azure.net", Login("managed", client_id=str(number)))
    contoso.begin("azurekeyvault://contoso/secrets/token")
    return list(azure._SESSIONS._kept.values())[-1]


def of_vault(number):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VAULT_ADDR", "https://vault.example")
        environment.setenv("VAULT_TOKEN", f"hvs.{number}")
        return vault.session(vault.Place.from_location(split("hashivault://kv/token")))


@pytest.mark.parametrize("session_of", [of_aws, of_azure, of_vault])
def test_what_a_long_life_has_used_is_not_kept_for_good(session_of, monkeypatch):
    """A new login an hour, say: each would keep its secret and its sockets."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "VAULT_", "BAO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(pool, "KEPT", 2)
    sessions = [weakref.ref(session_of(number)) for number in range(5)]
    gc.collect()
    assert [session() is not None for session in sessions] == [False, False, False, True, True]
