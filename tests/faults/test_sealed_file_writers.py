"""Many processes on one sealed file: no update is lost, and nobody waits for a dead one."""

import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.private_files import exclusive_lock
from cmzon_secrets.sealing_keys.key_file import generate_key_file

WRITERS = """
import os, random, sys, time
from cmzon_secrets import Token
from cmzon_secrets.errors import ConflictError
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile

folder, processes, rotations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(folder)

def open_file():
    return SealedFile("token.sealed", KeyFile("the.key"), lock_timeout=60)

def token(id):
    return Token("value-of-" + id, id=id)

def rotate(me):
    '''Each token's number is its predecessor's plus one: a lost update leaves a gap.'''
    store, won, tries = open_file(), 0, 0
    while won < rotations:
        tries += 1
        current = store.get()
        mine = f"tok_{int(current.id.split('_')[1]) + 1}_{me}_{tries}"
        try:
            store.stage(token(mine))
        except ConflictError:
            time.sleep(random.uniform(0, 0.1))  # somebody else is at it
            continue
        while True:
            try:
                store.promote(mine, replacing=current.id)
                won += 1
                store.discard(current.id)
                break
            except ConflictError:
                held = store.versions()
                if held.current.id != current.id:
                    store.discard(mine)
                    break
                if held.previous is not None:
                    store.discard(held.previous.id)
    return won

def rekey():
    store = open_file()
    for _ in range(rotations):
        store.rekey(KeyFile("the.key"))
    return 0

store = open_file()
store.stage(token("tok_0"))
store.promote("tok_0", replacing=None)
identity = store.identity
children = {}
for me in range(processes):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        won = rekey() if me % 10 == 9 else rotate(me)
        os.write(writing, str(won).encode())
        os._exit(0)
    os.close(writing)
    children[child] = reading
won = 0
for child, reading in children.items():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    won += int(os.read(reading, 100))
held = store.versions()
assert store.identity == identity
assert held.current.reveal() == "value-of-" + held.current.id
print(won, held.current.id.split("_")[1], held.pending, held.previous)
print(*sorted(os.listdir(".")))
"""


@pytest.mark.slow
def test_fifty_processes_that_rotate_and_rekey_at_once_lose_no_update(tmp_path):
    generate_key_file(tmp_path / "the.key")
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, tmp_path, "50", "2"],
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome, left = done.stdout.splitlines()
    assert outcome == "90 90 None None"
    assert left == "the.key token.sealed token.sealed.lock"


FORKING_HOLDER = """
import os, sys, threading, time
from cmzon_secrets.private_files import exclusive_lock

held, forked = threading.Event(), threading.Event()

def hold():
    with exclusive_lock(sys.argv[1], uri="holder"):
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
if sys.argv[2] == "releases":
    forked.set()
    thread.join()
    print("released", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["releases", "is killed"])
def test_a_lock_ends_with_its_holder_though_a_forked_child_lives_on(end, tmp_path):
    path = str(tmp_path / "a.lock")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING_HOLDER, path, end], stdout=subprocess.PIPE
    ) as holder:
        child = int(holder.stdout.readline())
        try:
            if end == "releases":
                assert holder.stdout.readline() == b"released\n"
            else:
                holder.kill()
                holder.wait()
            with exclusive_lock(path, uri="heir", timeout=20):
                os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)
            holder.kill()


def test_a_lock_is_exclusive_between_threads_of_one_process(tmp_path):
    path, inside, most, total = str(tmp_path / "a.lock"), 0, 0, 0

    def work():
        nonlocal inside, most, total
        for _ in range(20):
            with exclusive_lock(path, uri="test", timeout=60):
                inside += 1
                most = max(most, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == (1, 160)


def test_a_lock_file_removed_between_opening_and_locking_it_is_not_relied_on(tmp_path, monkeypatch):
    path, lock = tmp_path / "a.lock", fcntl.flock
    removals = [path]

    def removing(file, operation):
        if removals:
            removals.pop().unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removing)
    with (
        exclusive_lock(str(path), uri="first"),
        pytest.raises(ProviderUnavailable),
        exclusive_lock(str(path), uri="second", timeout=0.05),
    ):
        pass
    assert removals == []
