"""``hashivault-transit://MOUNT/KEY``: a key in the transit engine of HashiCorp Vault or OpenBao.

The data key is made here, encrypted and decrypted there, and bound to its purpose (associated data). Any
AEAD key will do: ``bao write -f MOUNT/keys/KEY``. After ``bao write -f MOUNT/keys/KEY/rotate`` what is old still
opens, and each write seals with the newest version, because each write wraps a new data key.

Address, login and TLS: ``clouds/vault_place.py``. Permissions (``permissions/hashivault-transit.*.hcl``): unwrap needs
``update`` on ``MOUNT/decrypt/KEY``, wrap on ``MOUNT/encrypt/KEY``; never ``create`` there, which makes a key of
whatever name is asked for. Source: https://openbao.org/api-docs/secret/transit/
"""

from __future__ import annotations

import re
from typing import Self

from cmzon_secrets.clouds import vault
from cmzon_secrets.clouds.vault_paths import checked_segments
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    TokenNotFound,
    shielded,
)
from cmzon_secrets.key_wrapping import (
    KEY_BYTES,
    check_data_key,
    decode_bytes,
    encode_bytes,
    not_this_seal,
)
from cmzon_secrets.sealing import SealingKey, Stanza
from cmzon_secrets.uri import Location

__all__ = ["VaultTransitKey"]

ALGORITHM = "hashivault-transit"
PURPOSE = b"cmzon-secrets data key 1"
"""Associated data: what somebody encrypted with the same key for something else is no data key."""

_CIPHERTEXT = re.compile(r"vault:v[1-9][0-9]{0,8}:(?P<encrypted>[A-Za-z0-9+/=]{16,512})", re.ASCII)


class VaultTransitKey(SealingKey):
    """The key at a location. ``timeout``: seconds that a verb may take in all."""

    OPTIONS = vault.OPTIONS

    def __init__(self, location: Location, *, timeout: float = DEFAULT_DEADLINE) -> None:
        self._location = location
        self._timeout = timeout
        *mount, self.name = checked_segments(location, "hashivault-transit://MOUNT/KEY")
        self.mount = "/".join(mount)
        self._session = vault.session(vault.Place.from_location(location))

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``hashivault-transit://MOUNT/KEY``; the mount may have slashes."""
        return cls(location)

    @property
    def uri(self) -> str:
        """The URI as it was given; what it does not say comes from the environment."""
        return str(self._location)

    @property
    def place(self) -> vault.Place:
        """The server, and as whom."""
        return self._session.place

    def begin(self) -> vault.Calls:
        """The calls of one verb, with its deadline."""
        return self._session.begin(uri=self.uri, timeout=self._timeout)

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """``{"wrap": "hashivault-transit", "wrapped": "vault:vN:…"}``."""
        check_data_key(data_key)
        wrapped = self._ask("encrypt", {"plaintext": encode_bytes(data_key)}, "ciphertext")
        if not _is_ciphertext(wrapped):
            raise self._stranger()
        return {"wrap": ALGORITHM, "wrapped": wrapped}

    @shielded
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key. Raises SealBroken for a stanza of another key or kind of key."""
        ours = set(stanza) == {"wrap", "wrapped"} and stanza["wrap"] == ALGORITHM
        if not ours or not _is_ciphertext(stanza["wrapped"]):
            raise not_this_seal(self.uri)
        data_key = decode_bytes(
            self._ask("decrypt", {"ciphertext": str(stanza["wrapped"])}, "plaintext")
        )
        if data_key is None or len(data_key) != KEY_BYTES:
            raise not_this_seal(self.uri)
        return data_key

    def _ask(self, verb: str, data: dict[str, str], member: str) -> str:
        try:
            body = self.begin().write(
                f"{self.mount}/{verb}/{self.name}",
                {**data, "associated_data": encode_bytes(PURPOSE)},
                expecting=(400,),
                repeatable=True,
            )
        except vault.Refused as refused:
            raise self._told(refused) from None
        except TokenNotFound as error:  # nothing is mounted there
            raise ConfigurationError(error.message, hint=error.hint) from error
        except AccessDenied as error:
            if verb == "encrypt":  # whoever must not create a key is told no more of a missing one
                error.hint = f"{error.hint}; is there a key of that name?"
            raise
        found = body.get("data")
        answer = found.get(member) if isinstance(found, dict) else None
        if not isinstance(answer, str):
            raise self._stranger()
        return answer

    def _told(self, refused: vault.Refused) -> CMzonSecretsError:
        """What a refusal means, by the words of the server."""
        said = refused.said.lower()
        if any(words in said for words in _BROKEN):
            return not_this_seal(self.uri)
        key = f"{self.mount}/keys/{self.name}"
        if "too old" in said:
            return AccessDenied(
                f"{self.uri} — the version of the key that sealed it is disabled (min_decryption_version)",
                uri=self.uri,
                hint=f"lower it until what it sealed is written anew: bao write {key}/config min_decryption_version=1",
            )
        for words, why in _UNFIT.items():
            if words in said:
                return ConfigurationError(
                    f"{self.uri} — {why}", hint=f"make one: bao write -f {key}"
                )
        return ConfigurationError(f"{self.uri} — the server refuses: {refused.said}")

    def _stranger(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.uri} — the answer is not that of a transit engine", hint="check the mount"
        )


_BROKEN = (
    "message authentication failed",  # another key, or altered
    "invalid ciphertext",  # too short, or of a version that this key never had
)
_UNFIT = {
    "key not found": "there is no such key",
    "non-aead": "the key is not of a type that authenticates what it encrypts",
    "missing 'context'": "the key is a derived one, which needs a context at each use",
}
"""Words of a refusal → what is wrong with the key."""


def _is_ciphertext(text: object) -> bool:
    """Bounded, and in the one canonical spelling."""
    found = _CIPHERTEXT.fullmatch(text) if isinstance(text, str) else None
    return found is not None and decode_bytes(found["encrypted"]) is not None
