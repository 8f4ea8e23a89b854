"""``azurekeyvault://VAULT/keys/NAME`` passes what every key must pass, and what Azure adds.

The real SDK over HTTPS against the Key Vault double, with no other rights than our roles give.
"""

import itertools
import json
import secrets
from base64 import b64decode, b64encode
from urllib.parse import quote

import pytest

from cmzon_secrets import Token, errors, open_store
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.permissions import policy
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.azure_key import AzureKey
from cmzon_secrets.testing import KeySuite
from servers.key_vault import Fault
from servers.key_vault_keys import PADDINGS, Keys

DATA_KEY = bytes(range(32))


class Azure:
    """One vault, its keys, and callers who have a role of ours or none."""

    def __init__(self, server):
        self.server = server
        self.vault = server.vault()
        self.keys = Keys.of(self.vault)
        self._numbers = itertools.count()

    def new_key(self, **attributes):
        name = f"Key-{next(self._numbers)}"
        self.keys.create(name, **attributes)
        for role in ("reader", "rotator"):
            definition = policy("azurekeyvault-key", role, {"resource_group_id": "/"})
            self.vault.assign(f"{role}-{name}", definition, f"keys/{name}")
        return name

    def seen_by(self, role, name):
        """The vault, for a caller with this role for this key."""
        return Vault(self.vault.host, Login("managed", client_id=f"{role}-{name}"))

    def open(self, name, role="rotator"):
        return AzureKey(self.seen_by(role, name), name)

    @property
    def asked(self):
        """``unwrapkey/VERSION`` for each request that was carried out."""
        return ["/".join(reversed(exchange.path.split("/")[3:])) for exchange in self.vault.traffic]


@pytest.fixture
def azure(key_vault_with_keys):
    return Azure(key_vault_with_keys)


class TestAzureKey(KeySuite):
    @pytest.fixture
    def new_place(self, azure):
        self.azure = azure
        return azure.new_key

    def open(self, place):
        return AzureKey(self.azure.seen_by("rotator", place), place)

    def secrets_of(self, place):
        numbers = self.azure.keys.newest(place).private.private_numbers()
        return [str(numbers.d), f"{numbers.d:x}", *self.azure.server._tokens]

    def denied(self, place):
        return self.azure.open(place, "nobody")

    def unreachable(self, place):
        self.azure.vault.lose(times=1000)
        return AzureKey(self.azure.seen_by("rotator", place), place, timeout=3.0)


@pytest.fixture
def name(azure):
    return azure.new_key()


@pytest.fixture
def key(azure, name):
    return azure.open(name)


def test_a_seal_opens_after_the_key_was_rotated_in_azure(azure, name, key):
    first = key.wrap(DATA_KEY)
    azure.keys.create(name)
    second = key.wrap(DATA_KEY)
    assert (
        first["key"]
        != second["key"]
        == f"https://{azure.vault.host}/keys/{name.lower()}/" + (azure.keys.newest(name).id)
    )
    assert key.unwrap(first) == key.unwrap(second) == DATA_KEY


def test_opening_a_seal_is_one_request_for_its_very_version(azure, name, key):
    stanza = key.wrap(DATA_KEY)
    version = azure.keys.newest(name).id
    azure.keys.create(name)
    azure.vault.traffic.clear()
    key.unwrap(stanza)
    assert azure.asked == [f"unwrapkey/{version}"]


def test_sealing_proves_that_the_seal_will_open(azure, name, key):
    key.wrap(DATA_KEY)
    assert azure.asked == ["wrapkey/", f"unwrapkey/{azure.keys.newest(name).id}"]


@pytest.mark.parametrize(
    "other",
    [
        "https://elsewhere.vault.azure.net/keys/{name}/{version}",
        "https://{host}/keys/another/{version}",
        "https://{host}/keys/{name}/{version}/unwrapkey?x=",
        "https://{host}/keys/{name}/",
        "http://{host}/keys/{name}/{version}",
        "{version}",
        "https://{host}/secrets/{name}/{version}",
    ],
)
def test_a_stanza_that_names_another_key_is_broken_before_any_call(azure, name, key, other):
    stanza = key.wrap(DATA_KEY)
    version = azure.keys.newest(name).id
    azure.vault.traffic.clear()
    altered = other.format(host=azure.vault.host, name=name.lower(), version=version)
    with pytest.raises(errors.SealBroken):
        key.unwrap({**stanza, "key": altered})
    assert azure.asked == []


def test_a_version_that_never_was_is_a_broken_seal(azure, key):
    stanza = key.wrap(DATA_KEY)
    with pytest.raises(errors.SealBroken):
        key.unwrap({**stanza, "key": stanza["key"][:-32] + "0" * 32})


def test_altered_ciphertext_is_refused_by_the_service(key):
    stanza = key.wrap(DATA_KEY)
    wrapped = bytearray(b64decode(stanza["wrapped"]))
    wrapped[100] ^= 1
    with pytest.raises(errors.SealBroken):
        key.unwrap({**stanza, "wrapped": b64encode(wrapped).decode()})


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_whatever_else_was_wrapped_with_the_public_key_is_no_data_key(azure, name, key, size):
    public = azure.keys.newest(name).private.public_key()
    wrapped = public.encrypt(bytes(size), PADDINGS["RSA-OAEP-256"])
    with pytest.raises(errors.SealBroken):
        key.unwrap({**key.wrap(DATA_KEY), "wrapped": b64encode(wrapped).decode()})


def test_a_disabled_key_is_refused_although_it_still_wraps(azure, name, key):
    stanza = key.wrap(DATA_KEY)
    azure.keys.newest(name).enabled = False
    for verb in (lambda: key.wrap(DATA_KEY), lambda: key.unwrap(stanza)):
        with pytest.raises(errors.AccessDenied, match="disabled") as caught:
            verb()
        assert "--enabled true" in caught.value.hint


@pytest.mark.parametrize("dates", [{"expires": 1.0}, {"not_before": 4e9}])
def test_a_key_outside_its_dates_opens_but_does_not_seal(azure, name, key, dates):
    stanza = key.wrap(DATA_KEY)
    for attribute, value in dates.items():
        setattr(azure.keys.newest(name), attribute, value)
    with pytest.raises(errors.AccessDenied, match="outside its dates") as caught:
        key.wrap(DATA_KEY)
    assert "az keyvault key rotate" in caught.value.hint
    assert key.unwrap(stanza) == DATA_KEY


def test_a_deleted_key_says_how_to_get_it_back_and_then_opens(azure, name, key):
    stanza = key.wrap(DATA_KEY)
    azure.keys.delete(name)
    for verb in (lambda: key.wrap(DATA_KEY), lambda: key.unwrap(stanza)):
        with pytest.raises(errors.ConfigurationError, match="no such key") as caught:
            verb()
        assert f"az keyvault key recover --vault-name {azure.vault.name}" in caught.value.hint
    azure.keys.recover(name)
    assert key.unwrap(stanza) == DATA_KEY


def test_a_key_of_another_kind_is_named_as_such(azure):
    with pytest.raises(errors.ConfigurationError, match="RSA-OAEP-256") as caught:
        azure.open(azure.new_key(kty="EC")).wrap(DATA_KEY)
    assert "--kty RSA" in caught.value.hint


def test_a_key_that_may_not_unwrap_seals_nothing(azure):
    key = azure.open(azure.new_key(operations=("wrapKey",)))
    with pytest.raises(errors.AccessDenied):
        key.wrap(DATA_KEY)


def test_a_reader_opens_and_does_not_seal(azure, name, key):
    stanza = key.wrap(DATA_KEY)
    reader = azure.open(name, "reader")
    assert reader.unwrap(stanza) == DATA_KEY
    with pytest.raises(errors.AccessDenied, match=r"keys/wrap/action"):
        reader.wrap(DATA_KEY)


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_a_role_reaches_no_other_key_and_does_not_read_its_own(azure, name, role):
    other = azure.new_key()
    stanza = azure.open(other).wrap(DATA_KEY)
    stranger = AzureKey(azure.seen_by(role, name), other)
    with pytest.raises(errors.AccessDenied, match=r"keys/unwrap/action"):
        stranger.unwrap(stanza)
    calls = azure.seen_by(role, name).begin("uri")
    with pytest.raises(errors.AccessDenied, match=r"keys/read"):
        calls.ask(calls.keys.get_key, name)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "text",
        {"kid": "https://{host}/keys/other/" + "0" * 32, "value": "AAAA"},
        {"kid": "https://{host}/keys/{name}/" + "0" * 32, "value": "=*="},
        {"kid": 1, "value": 2},
        {"kid": "https://{host}/keys/{name}/" + "0" * 32, "value": "AAAA"},
    ],
)
def test_an_answer_that_is_none_of_key_vaults_seals_nothing(azure, name, key, answer):
    if isinstance(answer, dict) and isinstance(answer.get("kid"), str):
        answer = {**answer, "kid": answer["kid"].format(host=azure.vault.host, name=name)}
    fault = Fault(200, "", "")
    fault.body = answer
    azure.vault.refuse(fault, times=9)
    with pytest.raises(errors.ProviderUnavailable):
        key.wrap(DATA_KEY)


def test_a_whole_file_is_sealed_read_and_rekeyed(azure, name, tmp_path):
    uri = f"file:{tmp_path}/token.sealed?key={{}}"
    value = f"cmzon-{secrets.token_hex(12)}"
    first, second = azure.open(name).uri, azure.open(azure.new_key()).uri
    with open_store(uri.format(quote(first))) as store:
        store.stage(Token(value, id="tok_1"))
        store.promote("tok_1", replacing=None)
        store.rekey(open_key(second))
    with open_store(uri.format(quote(second))) as store:
        assert store.get().reveal() == value
    with open_store(uri.format(quote(first))) as store, pytest.raises(errors.SealBroken):
        store.get()
    header = json.loads((tmp_path / "token.sealed").read_bytes().split(b"}}")[0][27:] + b"}}")
    assert header["stanza"]["wrap"] == "RSA-OAEP-256"


@pytest.mark.parametrize(
    "uri",
    [
        "azurekeyvault://v/keys/n/0123456789abcdef0123456789abcdef",
        "azurekeyvault://vault-1/secrets/name",
        "azurekeyvault:vault-1/keys/name",
        "azurekeyvault://vault-1/keys/",
        "azurekeyvault://vault-1/keys/under_score",
        "azurekeyvault://vault-1/keys/name?version=1",
    ],
)
def test_a_uri_that_names_no_key_is_refused_before_any_call(uri):
    with pytest.raises(errors.InvalidURI):
        open_key(uri)
