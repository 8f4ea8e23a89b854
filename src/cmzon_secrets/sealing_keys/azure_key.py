"""``azurekeyvault://VAULT/keys/NAME``: an RSA key in Azure Key Vault that wraps the data key.

The options are those of the store (``clouds/azure_credentials.py`` says where credentials come from).
Both verbs run in the service, by RSA-OAEP-256, although the SDK would wrap here wherever it may read
the public key: then nobody could be refused, and what a disabled key has wrapped nobody can open. So
``wrap`` asks for the wrapping and then for the unwrapping, to prove that the seal will open.

The stanza names the version that wrapped, so a seal stays readable after the key is rotated in
Azure, as long as its old version is enabled. RSA-OAEP authenticates neither a sender nor a context:
that the file is whole, and in its place, is the envelope's own check (``sealing.py``).

Permissions: ``unwrap`` needs ``Microsoft.KeyVault/vaults/keys/unwrap/action``; ``wrap`` that and
``…/keys/wrap/action``. ``permissions/azurekeyvault-key.*.json`` are the roles.
Source: https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.azure import OPTIONS, Calls, Refused, Vault, name_of
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import (
    ConfigurationError,
    ProviderUnavailable,
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

if TYPE_CHECKING:
    from azure.core.rest import HttpResponse

__all__ = ["AzureKey"]

ALGORITHM = "RSA-OAEP-256"
"""Its name in JOSE (RFC 7518 §4.3) and in Key Vault's API."""

_MODULUS_BYTES = frozenset({256, 384, 512})  # RSA keys in Key Vault have 2048, 3072 or 4096 bits


class AzureKey(SealingKey):
    """The key of this name. ``timeout``: seconds for one verb in all."""

    OPTIONS = OPTIONS

    def __init__(
        self,
        vault: Vault,
        name: str,
        *,
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._vault = vault
        self._name = name
        self._timeout = timeout
        self._clock = clock
        self._key_id = f"https://{vault.host}/keys/{name.lower()}/"  # Key Vault takes any case
        self._versioned = re.compile(re.escape(self._key_id) + "([0-9a-f]{32})", re.ASCII)

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``azurekeyvault://VAULT/keys/NAME``; a version has no place in it."""
        name = name_of(location, "keys")
        return cls(Vault.from_location(location, "keys"), name)

    @property
    def uri(self) -> str:
        """``azurekeyvault://VAULT/keys/NAME`` with its options."""
        return self._vault.uri("keys", self._name)

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """``{"wrap": "RSA-OAEP-256", "key": the key's id with its version, "wrapped": base64}``."""
        check_data_key(data_key)
        calls = self._begin("rotator")
        try:
            version, wrapped = self._ask(
                calls, "wrapkey", "", data_key, expecting=("BadParameter",)
            )
        except Refused as refused:
            raise self._wrong_kind() from refused
        if self._ask(calls, "unwrapkey", version, wrapped) != (version, data_key):
            raise self._not_key_vault()
        return {
            "wrap": ALGORITHM,
            "key": f"{self._key_id}{version}",
            "wrapped": encode_bytes(wrapped),
        }

    @shielded
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key. Raises SealBroken, before any call, for a stanza of another key."""
        version, wrapped = self._parts(stanza)
        calls = self._begin("reader")
        try:
            _, data_key = self._ask(
                calls, "unwrapkey", version, wrapped, expecting=("BadParameter", "KeyNotFound")
            )
        except Refused as refused:
            if refused.code == "KeyNotFound":
                self._require_key(calls, wrapped)
            raise not_this_seal(self.uri) from refused
        if len(data_key) != KEY_BYTES:
            raise not_this_seal(self.uri)
        return data_key

    def _begin(self, role: str) -> Calls:
        return self._vault.begin(self.uri, role=role, timeout=self._timeout, clock=self._clock)

    def _ask(
        self,
        calls: Calls,
        verb: str,
        version: str,
        value: bytes,
        *,
        expecting: Collection[str] = (),
    ) -> tuple[str, bytes]:
        """The version that answered, and what it made of ``value``. No version is the newest."""
        from azure.core.rest import HttpRequest

        request = HttpRequest(
            "POST",
            f"/keys/{self._name}/{version}/{verb}",
            json={"alg": ALGORITHM, "value": urlsafe_b64encode(value).rstrip(b"=").decode()},
        )

        def post(**kwargs: Any) -> Any:
            response: HttpResponse = calls.keys.send_request(request, **kwargs)
            response.raise_for_status()
            return response.json()

        return self._read(calls.ask(post, expecting=expecting))

    def _read(self, answer: Any) -> tuple[str, bytes]:
        try:
            named = self._versioned.fullmatch(answer["kid"].lower())
            value = urlsafe_b64decode(answer["value"] + "==")
        except (LookupError, TypeError, ValueError, AttributeError):
            named = None
        if named is None:
            raise self._not_key_vault()
        return named[1], value

    def _parts(self, stanza: Stanza) -> tuple[str, bytes]:
        """Version and wrapped key in a stanza, bounded. Raises SealBroken."""
        if set(stanza) != {"wrap", "key", "wrapped"} or stanza["wrap"] != ALGORITHM:
            raise not_this_seal(self.uri)
        key, wrapped = stanza["key"], decode_bytes(stanza["wrapped"])
        named = self._versioned.fullmatch(key) if isinstance(key, str) else None
        if named is None or wrapped is None or len(wrapped) not in _MODULUS_BYTES:
            raise not_this_seal(self.uri)
        return named[1], wrapped

    def _require_key(self, calls: Calls, wrapped: bytes) -> None:
        """Tell a version that never was from a key that is gone. Raises ConfigurationError for that."""
        try:
            self._ask(calls, "unwrapkey", "", wrapped, expecting=("BadParameter",))
        except Refused:
            return  # the key is there: its newest version just did not wrap this

    def _wrong_kind(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.uri} — Key Vault cannot wrap with this key by {ALGORITHM}",
            hint="it must be an RSA key of 2048 bits or more: az keyvault key create --kty RSA",
        )

    def _not_key_vault(self) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.uri} — the answer is not one of Key Vault", uri=self.uri)
