"""The keys of the Key Vault double: what `/keys/…` answers, with real RSA.

From the published OpenAPI description (Azure/azure-rest-api-specs, keyvault/data-plane/Keys, MIT) and the
behaviour that was seen: a disabled key refuses `unwrapkey` and still wraps; a key outside its dates
refuses `wrapkey` and still unwraps; a deleted key is 404 until it is recovered. Not known from a live
vault: the inner code of "outside its validity".
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from servers.key_vault import Fault, Route

PADDINGS = {
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
}


@dataclass
class KeyVersion:
    private: rsa.RSAPrivateKey
    kty: str = "RSA"
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    enabled: bool = True
    not_before: float | None = None
    expires: float | None = None
    operations: tuple[str, ...] = ("wrapKey", "unwrapKey")


class Keys:
    """One vault's keys, and what an administrator does to them."""

    def __init__(self):
        self._keys = {}
        self._deleted = {}

    @classmethod
    def of(cls, vault):
        return vault.kind("keys", cls)

    def create(self, name, **attributes):
        """A key, or a new version of it: a rotation."""
        version = KeyVersion(next(_RSA), **attributes)
        self._keys.setdefault(name.lower(), []).append(version)
        return version

    def newest(self, name):
        return self._keys[name.lower()][-1]

    def delete(self, name):
        self._deleted[name.lower()] = self._keys.pop(name.lower())

    def recover(self, name):
        self._keys[name.lower()] = self._deleted.pop(name.lower())

    def find(self, name, version):
        for found in reversed(self._keys.get(name.lower(), [])):
            if version in {"", found.id}:
                return found
        raise Fault(
            404,
            "KeyNotFound",
            f"A key with (name/id) {name}/{version} was not found in this key vault. If you recently"
            " deleted this key you may be able to recover it using the correct recovery command.",
        )


def get(vault, request):
    version = _found(vault, request)
    numbers = version.private.public_key().public_numbers()
    key = {
        "kid": _id(vault, request, version),
        "kty": version.kty,
        "key_ops": list(version.operations),
        "n": _integer(numbers.n),
        "e": _integer(numbers.e),
    }
    return 200, {"key": key, "attributes": {"enabled": version.enabled}}


def wrap(vault, request):
    version, value, padding_ = _operation(vault, request, "wrapKey")
    early = version.not_before is not None and vault.now() < version.not_before
    late = version.expires is not None and vault.now() >= version.expires
    if early or late:
        message = "Operation wrapKey is not allowed on a key outside its validity."
        raise Fault(403, "Forbidden", message, inner="KeyNotYetValidOrExpired")
    return _result(vault, request, version, version.private.public_key().encrypt(value, padding_))


def unwrap(vault, request):
    version, value, padding_ = _operation(vault, request, "unwrapKey")
    if not version.enabled:
        message = "Operation unwrapKey is not allowed on a disabled key."
        raise Fault(403, "Forbidden", message, inner="KeyDisabled")
    try:
        return _result(vault, request, version, version.private.decrypt(value, padding_))
    except ValueError:
        raise Fault(400, "BadParameter", "The parameter is incorrect.\r\n") from None


def _operation(vault, request, operation):
    """Version, value and padding of a request that may go on."""
    body = request.body or {}
    if set(body) != {"alg", "value"}:
        raise Fault(
            400, "BadParameter", "The request body holds an unknown property, or lacks one."
        )
    version = _found(vault, request)
    if version.kty != "RSA" or body["alg"] not in PADDINGS:
        raise Fault(400, "BadParameter", "Key and algorithm are incompatible.")
    if operation not in version.operations:
        raise Fault(403, "Forbidden", f"Operation {operation} is not permitted on this key.")
    value = urlsafe_b64decode(body["value"] + "=" * (-len(body["value"]) % 4))
    return version, value, PADDINGS[body["alg"]]


def _found(vault, request):
    return Keys.of(vault).find(request.names["name"], request.names["version"])


def _result(vault, request, version, value):
    encoded = urlsafe_b64encode(value).rstrip(b"=").decode()
    return 200, {"kid": _id(vault, request, version), "value": encoded}


def _id(vault, request, version):
    return f"https://{vault.host}/keys/{request.names['name']}/{version.id}"


def _integer(number):
    length = (number.bit_length() + 7) // 8
    return urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()


def _pool(size):
    """Real keys, made when first needed and then used in turn: making one takes a tenth of a second."""
    made = []
    for _ in range(size):
        made.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))
        yield made[-1]
    yield from cycle(made)


_RSA = _pool(4)

_PATH = "/keys/(?P<name>[^/]+)/(?P<version>[^/]*)"
ROUTES = (
    Route("GET", _PATH, "keys/read", get),
    Route("POST", f"{_PATH}/wrapkey", "keys/wrap/action", wrap),
    Route("POST", f"{_PATH}/unwrapkey", "keys/unwrap/action", unwrap),
)


@pytest.fixture
def key_vault_with_keys(key_vault):
    """The Key Vault double that knows keys, too."""
    if ROUTES[0] not in key_vault.routes:
        key_vault.routes += ROUTES
    return key_vault
