"""SIGKILL at any instant: a reader sees the old or the new document, and the next writer goes on.

The scripts fork their victims in a process of their own, which has no threads.
"""

import subprocess
import sys

import pytest

PRELUDE = """
import os, random, signal, sys, time
from pathlib import Path
from cmzon_secrets import Token
from cmzon_secrets.errors import SealBroken
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.testing import interposed

os.chdir(sys.argv[1])
generate_key_file("the.key")
generate_key_file("new.key")

def open_file(key="the.key", **options):
    return SealedFile("token.sealed", KeyFile(key), **options)

def forked(run):
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    return child

def token(id):
    return Token("value-of-" + id, id=id)

def names():
    return sorted(n for n in os.listdir(".") if n not in ("the.key", "new.key"))
"""

KILLED_ANYWHEN = (
    PRELUDE
    + """
def rotate_for_ever():
    store = open_file()
    while True:
        current = store.get()
        following = f"tok_{int(current.id[4:]) + 1}"
        store.stage(token(following))
        store.promote(following, replacing=current.id)
        store.discard(current.id)

store = open_file()
store.stage(token("tok_0"))
store.promote("tok_0", replacing=None)
began = time.monotonic()
store.stage(token("tok_1"))
store.promote("tok_1", replacing="tok_0")
store.discard("tok_0")
window = 3 * (time.monotonic() - began)
seen, reads, kills = 1, 0, 0
while kills < 60:
    child = forked(rotate_for_ever)
    until = time.monotonic() + random.uniform(0, window)
    while time.monotonic() < until:
        reads += 1
        store.versions()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
    held = store.versions()
    number = int(held.current.id[4:])
    assert number >= seen, "a rotation that was seen is gone"
    assert held.current.reveal() == "value-of-" + held.current.id
    if number == seen:
        window = min(1.5 * window, 0.5)  # a slow disk: give them time to get somewhere
    seen = number
    for unfinished in (held.pending, held.previous):
        if unfinished is not None:
            store.discard(unfinished.id)
store.stage(token("tok_last"))
assert names() == ["token.sealed", "token.sealed.lock"], names()
print(kills, seen, reads)
"""
)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_sixty_kills_at_random_moments_lose_nothing(tmp_path):
    kills, rotations, reads = map(int, run(KILLED_ANYWHEN, tmp_path))
    assert kills == 60
    assert rotations > 10, "the victims were killed before they did anything"
    assert reads > 10


KILLED_AT_EACH_CALL = (
    PRELUDE
    + """
CALLS = ("open", "read", "write", "fchmod", "fsync", "replace", "listdir", "unlink", "close")

def prepare():
    for name in names():
        os.unlink(name)
    if sys.argv[2] in ("rotate", "rekey"):
        store = open_file()
        store.stage(token("tok_1"))
        store.promote("tok_1", replacing=None)

def act():
    with open_file() as store:
        if sys.argv[2] == "identity":
            store.identity
        elif sys.argv[2] == "stage":
            store.stage(token("tok_1"))
        elif sys.argv[2] == "rekey":
            store.rekey(KeyFile("new.key"))
        elif store.get().id == "tok_1":
            store.stage(token("tok_2"))
            store.promote("tok_2", replacing="tok_1")

def killed_at(step):
    taken = 0
    def count():
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)
    with interposed(count, os, *CALLS):
        act()

def the_file():  # with whichever key it now has
    try:
        open_file().versions()
        return open_file()
    except SealBroken:
        return open_file("new.key")

step, killed = 1, True
while killed:
    prepare()
    before = the_file().versions()
    child = forked(lambda: killed_at(step))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    killed = status == -signal.SIGKILL
    assert killed or status == 0, status
    held = the_file().versions()
    assert all(t.reveal() == "value-of-" + t.id for t in held), step
    assert before.current is None or held.current is not None, step
    if sys.argv[2] == "rekey":
        assert held == before, step
    else:
        act()  # whoever comes next completes it
    if pending := the_file().versions().pending:
        the_file().discard(pending.id)
    the_file().stage(token("tok_next"))
    assert names() == ["token.sealed", "token.sealed.lock"], (step, names())
    step += 1
print(step - 2)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["identity", "stage", "rotate", "rekey"])
def test_a_kill_at_each_single_call_leaves_the_old_or_the_new_file(verb, tmp_path):
    (kills,) = map(int, run(KILLED_AT_EACH_CALL, tmp_path, verb))
    assert kills > 10


KEYGEN_KILLED = (
    PRELUDE
    + """
CALLS = ("open", "write", "fchmod", "fsync", "link", "unlink", "close")

def killed_at(step):
    taken = 0
    def count():
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)
    with interposed(count, os, *CALLS):
        generate_key_file("made.key")

step, killed = 1, True
while killed:
    Path("made.key").unlink(missing_ok=True)
    child = forked(lambda: killed_at(step))
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if Path("made.key").exists():
        KeyFile("made.key").read_key()
    else:
        generate_key_file("made.key")
    step += 1
print(step - 2)
"""
)


def test_a_killed_keygen_leaves_a_whole_key_or_none(tmp_path):
    (kills,) = map(int, run(KEYGEN_KILLED, tmp_path))
    assert kills >= 8


INTERRUPTED = (
    PRELUDE
    + """
store = open_file()
store.stage(token("tok_0"))
store.promote("tok_0", replacing=None)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interruptions = 0
for round in range(150):
    held = store.versions()
    following = f"tok_{round + 1}"
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.004))
    try:
        store.stage(token(following))
        store.promote(following, replacing=held.current.id)
        store.discard(held.current.id)
    except KeyboardInterrupt:
        interruptions += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    left = store.versions()
    assert left.current in (held.current, token(following))
    for unfinished in (left.pending, left.previous):
        if unfinished is not None:
            store.discard(unfinished.id)
    assert names() == ["token.sealed", "token.sealed.lock"], names()
print(interruptions)
"""
)


@pytest.mark.slow
def test_ctrl_c_at_any_moment_leaves_the_old_or_the_new_file_and_no_lock(tmp_path):
    (interruptions,) = map(int, run(INTERRUPTED, tmp_path))
    assert interruptions > 5
