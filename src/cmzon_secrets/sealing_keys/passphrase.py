"""``passphrase:``: a key derived by scrypt (RFC 7914) from a passphrase that a person knows.

The passphrase comes from ``$CMZON_SECRETS_PASSPHRASE``, else from a prompt without echo on the
terminal: twice where something is sealed for the first time. Salt and parameters stand in the
header. A derivation takes about half a second and 128 MiB by design, so its result is kept in the
object: one derivation per process and file. Reading asks for no permission.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cmzon_secrets.errors import (
    ConfigurationError,
    InvalidURI,
    ProviderUnavailable,
    SealBroken,
    shielded,
)
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.key_wrapping import (
    KEY_BYTES,
    decode_bytes,
    encode_bytes,
    unwrap_data_key,
    wrap_data_key,
)
from cmzon_secrets.prompts import ask_unseen
from cmzon_secrets.sealing import SealingKey, Stanza
from cmzon_secrets.uri import Location

__all__ = ["CHEAPEST", "RECOMMENDED", "VARIABLE", "PassphraseKey", "ScryptProfile"]

VARIABLE = "CMZON_SECRETS_PASSPHRASE"


@dataclass(frozen=True, slots=True)
class ScryptProfile:
    """Parameters of scrypt: cost ``n``, block size ``r``, parallelism ``p`` (RFC 7914 §2)."""

    n: int
    r: int
    p: int

    @property
    def acceptable(self) -> bool:
        """Whether a header may ask for it: at most 1 GiB and 8 times the recommended work."""
        power_of_two = self.n >= 2 and self.n & (self.n - 1) == 0
        bounded = self.n <= 2**20 and 1 <= self.r <= 16 and 1 <= self.p <= 4
        return power_of_two and bounded and self.n * self.r * self.p <= 2**23


RECOMMENDED = ScryptProfile(n=2**17, r=8, p=1)
"""OWASP Password Storage Cheat Sheet, its first choice for scrypt (as of 2026)."""

CHEAPEST = ScryptProfile(n=2, r=1, p=1)
"""Only for tests: it protects nothing."""

_SALT = 16  # bytes; RFC 7914's own examples and NIST SP 800-132 §5.1 ask for no more
_MEMBERS = frozenset({"kdf", "n", "r", "p", "salt", "wrapped"})


@dataclass(frozen=True, slots=True)
class _Derivation:
    """Everything but the passphrase."""

    profile: ScryptProfile
    salt: bytes


class PassphraseKey(SealingKey):
    """The key of ``passphrase:``. ``profile`` is for what is sealed for the first time."""

    def __init__(self, *, profile: ScryptProfile = RECOMMENDED) -> None:
        self._profile = profile
        # Keys lie in closures, where no reporter that prints objects finds them.
        self._proved: dict[_Derivation, Callable[[], bytes]] = {}
        self.after_fork()
        renew_in_child(self)

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``passphrase:``."""
        if location.path or location.authority:
            raise InvalidURI(
                "passphrase: URI — nothing may follow it (it is not repeated: it may be the passphrase)",
                hint=f"put the passphrase into ${VARIABLE} or type it at the prompt",
            )
        return cls()

    @property
    def uri(self) -> str:
        """``passphrase:``."""
        return "passphrase:"

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """``{"kdf": "scrypt", "n", "r", "p", "salt": base64, "wrapped": base64}``.

        With the salt of what was unwrapped last, so that readers need no new derivation; a new
        one where nothing was unwrapped. Raises ConfigurationError where there is no passphrase.
        """
        with self._deriving:
            if not self._proved:
                new = _Derivation(self._profile, os.urandom(_SALT))
                self._remember(new, _derive(_passphrase(new=True), new))
            how, key = list(self._proved.items())[-1]
        profile = how.profile
        return {
            "kdf": "scrypt",
            "n": profile.n,
            "r": profile.r,
            "p": profile.p,
            "salt": encode_bytes(how.salt),
            "wrapped": wrap_data_key(key(), data_key),
        }

    @shielded
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key. Raises SealBroken, or ConfigurationError where there is no passphrase."""
        how = _parse(stanza)
        data_key = self._unwrapped(stanza["wrapped"], how) if how is not None else None
        if data_key is None:
            raise SealBroken(
                "passphrase: — a wrong passphrase, or the seal was altered", uri=self.uri
            )
        return data_key

    def after_fork(self) -> None:
        """The lock anew: the parent's may be held by a thread we don't have."""
        self._deriving = threading.Lock()

    def close(self) -> None:
        """Forget the derived keys."""
        self._proved.clear()

    def _unwrapped(self, wrapped: object, how: _Derivation) -> bytes | None:
        with self._deriving:  # one at a time: each takes 128 MiB, and the second finds it done
            known = self._proved.get(how)
            key = known() if known is not None else _derive(_passphrase(new=False), how)
            data_key = unwrap_data_key(key, wrapped)
            if data_key is not None:
                self._remember(how, key)
        return data_key

    def _remember(self, how: _Derivation, key: bytes) -> None:
        self._proved.pop(how, None)
        self._proved[how] = lambda: key


def _parse(stanza: Stanza) -> _Derivation | None:
    """The parameters of a stanza, bounded; None where they cannot be ours."""
    if set(stanza) != _MEMBERS or stanza["kdf"] != "scrypt":
        return None
    n, r, p = stanza["n"], stanza["r"], stanza["p"]
    salt = decode_bytes(stanza["salt"])
    if salt is None or len(salt) != _SALT:
        return None
    if type(n) is not int or type(r) is not int or type(p) is not int:
        return None
    profile = ScryptProfile(n, r, p)
    return _Derivation(profile, salt) if profile.acceptable else None


def _derive(passphrase: bytes, how: _Derivation) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    profile = how.profile
    try:
        return Scrypt(
            salt=how.salt, length=KEY_BYTES, n=profile.n, r=profile.r, p=profile.p
        ).derive(passphrase)
    except MemoryError:
        needed = 128 * profile.n * profile.r // 2**20
        raise ProviderUnavailable(
            f"passphrase: — scrypt needs {needed} MiB of memory, and got none"
        ) from None


def _passphrase(*, new: bool) -> bytes:
    text = os.environ.get(VARIABLE) or _ask(new=new)
    # The same letters, however a keyboard composes them (RFC 8265 §4.2.1).
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


def _ask(*, new: bool) -> str:
    if not _someone_sits_there():
        raise ConfigurationError(
            "passphrase: — there is no terminal to ask for it",
            hint=f"set {VARIABLE}, or use another key: keyfile:PATH",
        )
    passphrase = _prompt("New passphrase: " if new else "Passphrase: ")
    if not passphrase:
        raise ConfigurationError("passphrase: — none was typed")
    if new and _prompt("The same again: ") != passphrase:
        raise ConfigurationError("passphrase: — the two that were typed differ", hint="try again")
    return passphrase


def _someone_sits_there() -> bool:
    """Whether there is a terminal, and at least one of our ends is on it."""
    if not (os.isatty(0) or os.isatty(2)):
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _prompt(text: str) -> str:
    return ask_unseen(text, what="passphrase:", hint=f"set {VARIABLE} for this once")
