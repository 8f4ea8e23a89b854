"""What a read and a write of a sealed file cost, beside the least that any program could do.

    python benchmarks/sealed_file.py

The target is a read in at most 1 ms with ``keyfile:``. "By hand" opens the file, parses the header
as JSON and decrypts once: no check of owner and mode, no key wrapping, no tokens made of it.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cmzon_secrets import Token
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.sealing_keys.passphrase import VARIABLE, PassphraseKey

TARGET = 1.0  # ms


def milliseconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 99th percentile of one call."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def store_in(folder: Path) -> SealedFile:
    """A sealed file with a CURRENT and a PREVIOUS."""
    generate_key_file(folder / "the.key")
    store = SealedFile(folder / "token.sealed", KeyFile(folder / "the.key"))
    for number, replacing in ((1, None), (2, "tok_1")):
        store.stage(Token(f"cmz_{number}" * 10, id=f"tok_{number}", scopes=("messages:send",)))
        store.promote(f"tok_{number}", replacing=replacing)
    return store


def by_hand(folder: Path) -> Callable[[], object]:
    """The same document under AES-256-GCM with one fixed key."""
    key, nonce, path = os.urandom(32), os.urandom(12), folder / "by_hand"
    document = json.dumps({"current": {"token": "cmz_2" * 10}, "previous": {"token": "x" * 50}})
    path.write_bytes(nonce + AESGCM(key).encrypt(nonce, document.encode(), None))

    def read() -> object:
        content = path.read_bytes()
        return json.loads(AESGCM(key).decrypt(content[:12], content[12:], None))

    return read


def staging(store: SealedFile) -> Callable[[], object]:
    """One durable write: a token staged, and every second time forgotten."""
    token = Token("cmz_pending", id="tok_pending")
    turn = iter(range(1_000_000))
    return lambda: store.discard(token.id) if next(turn) % 2 else store.stage(token)


def first_read_with_passphrase(folder: Path, store: SealedFile) -> Callable[[], object]:
    """What each process pays once: scrypt as OWASP recommends."""
    os.environ[VARIABLE] = "a passphrase for this benchmark"
    store.rekey(PassphraseKey())
    return lambda: SealedFile(folder / "token.sealed", PassphraseKey()).get()


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = store_in(folder)
        rows = {
            "read by hand": milliseconds(by_hand(folder), 2000),
            "read, keyfile:": milliseconds(store.get, 2000),
            "write, keyfile: (2 fsync)": milliseconds(staging(store), 100),
            "first read, passphrase:": milliseconds(first_read_with_passphrase(folder, store), 5),
        }
    for what, (median, worst) in rows.items():
        print(f"{what:27} median {median:9.3f} ms   99 % {worst:9.3f} ms")
    read = rows["read, keyfile:"][0]
    print(f"\nread / by hand: {read / rows['read by hand'][0]:.1f}")
    print(f"target {TARGET} ms: {'met' if read <= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
