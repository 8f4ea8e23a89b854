"""The Key Vault double against what Microsoft publishes: its OpenAPI description, recorded error bodies.

The real SDK and our store drive the double through every operation; each exchange is then checked
field by field. Whatever the double gets wrong here, the store's tests would have believed.
"""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

from cmzon_secrets import Token
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from servers.key_vault import SwiftClock
from servers.key_vault_secrets import disable, secrets_of

FOLDER = Path(__file__).parent / "azure"
DESCRIPTION = json.loads((FOLDER / "secrets-2026-04-01.json").read_text())
ERRORS = json.loads((FOLDER / "errors.json").read_text())["errors"]
NOT_THERE = {"BackupSecret", "RestoreSecret"}
"""Operations that the double refuses: nothing of ours uses them."""
KINDS = {"string": str, "boolean": bool, "integer": int}
SPEED = 100
QUICKLY = {"_polling_interval": 0.02}


class Driven:
    """A vault, the SDK's client for it, and a store in it."""

    def __init__(self, server):
        self.server, self.vault = server, server.vault(speed=SPEED)
        self.place = Vault(self.vault.host, Login(credential="managed", client_id="owner"))
        self.client = self.place.begin("test:").secrets
        self.store = AzureKeyVault(self.place, "token", clock=SwiftClock(SPEED))

    def live(self):
        """A whole life of a secret, deletion and recovery included."""
        self.store.create()
        for number in range(3):
            current = self.store.versions()
            token = Token(f"value{number}", id=f"tok_{number}", scopes=("messages:send",))
            if current.previous is not None:
                self.store.discard(current.previous.id)
            self.store.stage(token)
            self.store.promote(token.id, replacing=current.current and current.current.id)
        for number in range(30):
            self.client.set_secret("many", f"value{number}")
        assert len(list(self.client.list_properties_of_secret_versions("many"))) == 30
        list(self.client.list_properties_of_secrets(max_page_size=1))
        self.client.begin_delete_secret("many", **QUICKLY).wait()
        self.wait_for(lambda: self.client.get_deleted_secret("many"))
        list(self.client.list_deleted_secrets())
        self.client.begin_recover_deleted_secret("many", **QUICKLY).wait()
        self.wait_for(lambda: self.client.get_secret("many"))
        self.client.begin_delete_secret("many", **QUICKLY).wait()
        self.wait_for(lambda: self.client.purge_deleted_secret("many"))

    def wait_for(self, call):
        """The SDK's pollers may give up before the service is ready."""
        from azure.core.exceptions import HttpResponseError

        for _ in range(200):
            with suppress(HttpResponseError):
                return call()
        raise AssertionError("it never became ready")


@pytest.fixture
def driven(key_vault):
    return Driven(key_vault)


def operation_of(exchange):
    for operation in sorted(DESCRIPTION["operations"], key=lambda o: "-version}" in o["path"]):
        pattern = re.sub(r"\{[^}]+\}", "[^/]*", operation["path"])
        if operation["method"] == exchange.method and re.fullmatch(
            pattern, exchange.path.rstrip("/")
        ):
            return operation
    if exchange.method == "GET" and re.fullmatch("/secrets/[^/]+/", exchange.path):
        return operation_named("GetSecret")  # the version is empty: the current one
    raise AssertionError(f"not described: {exchange.method} {exchange.path}")


def operation_named(name):
    return next(o for o in DESCRIPTION["operations"] if o["operationId"] == name)


def check(value, kind, where):
    kind, _, _ = kind.partition(" ")
    if kind in KINDS:
        assert type(value) is KINDS[kind], where
    elif kind == "map":
        assert all(isinstance(v, str) for v in value.values()), where
    elif kind.startswith("["):
        for item in value:
            check(item, kind.strip("[]"), where)
    else:
        definition = DESCRIPTION["definitions"][kind]
        assert set(value) <= set(definition["properties"]), where
        assert set(definition.get("required", ())) <= set(value), where
        for name, member in value.items():
            if member is not None:
                check(member, definition["properties"][name], f"{where}.{name}")


def test_every_exchange_is_as_described(driven):
    driven.live()
    seen = set()
    for exchange in driven.vault.traffic:
        operation = operation_of(exchange)
        where = operation["operationId"]
        seen.add(where)
        assert exchange.status == int(operation["status"]), where
        assert set(exchange.query) - {"$skiptoken"} <= set(operation["query"]), where
        assert exchange.query["api-version"] == DESCRIPTION["api_version"]
        if exchange.sent is not None:
            check(exchange.sent, operation["body"], where)
            sent = exchange.sent.get("attributes") or {}
            described = DESCRIPTION["definitions"]["SecretAttributes"]["properties"]
            assert not [n for n in sent if "readOnly" in described[n]], where
        if operation["response"] is None:
            assert exchange.answered is None
        else:
            check(exchange.answered, operation["response"], where)
    assert seen == {o["operationId"] for o in DESCRIPTION["operations"]} - NOT_THERE


def test_what_comes_back_is_complete(driven):
    """The description makes nothing required; the live service always sends these."""
    driven.live()
    for exchange in driven.vault.traffic:
        answers = [exchange.answered] if exchange.answered else []
        if answers and "nextLink" in answers[0]:
            answers = answers[0]["value"]
        for answer in answers:
            assert {"enabled", "created", "updated", "recoveryLevel"} <= set(answer["attributes"])
            assert answer["attributes"]["recoveryLevel"] in DESCRIPTION["recovery_levels"]
            assert answer["id"].startswith(f"https://{driven.vault.host}/secrets/")


def test_listings_have_no_values_and_pages_of_25_in_the_order_of_ids(driven):
    for number in range(60):
        driven.client.set_secret("many", f"value{number}")
    driven.vault.traffic.clear()
    list(driven.client.list_properties_of_secret_versions("many"))
    pages = [e.answered["value"] for e in driven.vault.traffic]
    assert [len(page) for page in pages] == [25, 25, 10]
    items = [item for page in pages for item in page]
    assert [i["id"] for i in items] == sorted(i["id"] for i in items)
    assert not any("value" in item for item in items)


@pytest.mark.parametrize("operation", sorted(NOT_THERE))
def test_what_is_not_there_is_refused(operation, driven):
    from azure.core.exceptions import HttpResponseError

    driven.client.set_secret("some", "value")
    calls = {
        "BackupSecret": lambda: driven.client.backup_secret("some"),
        "RestoreSecret": lambda: driven.client.restore_secret_backup(b"backup"),
    }
    with pytest.raises(HttpResponseError):
        calls[operation]()


class TestDeleting:
    def test_it_takes_a_while_and_blocks_the_name(self, driven):
        driven.client.set_secret("some", "value")
        secrets_of(driven.vault).transition = 1e6
        assert send(driven, "DELETE", "/secrets/some") == (200, None)
        assert send(driven, "GET", "/secrets/some/?api-version=7.6") == (404, "SecretNotFound")
        assert send(driven, "GET", "/deletedsecrets/some") == (404, "SecretNotFound")
        for method, target in (("PUT", "/secrets/some"), ("DELETE", "/deletedsecrets/some")):
            body = {"value": "v"} if method == "PUT" else None
            assert send(driven, method, target, body) == (409, "Conflict")

    def test_purge_protection_lets_nobody_purge(self, driven):
        driven.vault.purge_protection = True
        driven.client.set_secret("some", "value")
        secrets_of(driven.vault).by_name["some"].state = "deleted"
        assert send(driven, "DELETE", "/deletedsecrets/some") == (403, "Forbidden")
        assert send(driven, "POST", "/deletedsecrets/some/recover") == (200, None)

    def test_a_name_means_the_same_in_any_case(self, driven):
        driven.client.set_secret("Some", "value")
        assert driven.client.get_secret("sOME").value == "value"


REFUSED = {
    "an unknown field": {"value": "v", "valeu": "v"},
    "no value": {"tags": {}},
    "a value over 25 KB": {"value": "v" * 25_601},
    "16 tags": {"value": "v", "tags": {str(n): "" for n in range(16)}},
    "a tag of 257 characters": {"value": "v", "tags": {"a": "x" * 257}},
    "a date that the service sets": {"value": "v", "attributes": {"created": 1}},
    "half a second": {"value": "v", "attributes": {"exp": 1.5}},
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_body_that_breaks_a_rule_is_refused(body, driven):
    assert send(driven, "PUT", "/secrets/some", body) == (400, "BadParameter")
    assert driven.vault.traffic == []


@pytest.mark.parametrize("version", ["", "?api-version=2015-01-01", "?api-version=2026-04-01&x=1"])
def test_an_unknown_version_or_parameter_is_refused(version, driven):
    assert send(driven, "GET", f"/secrets/some/{version}")[0] == 400


def test_a_name_with_a_dot_is_refused(driven):
    assert send(driven, "PUT", "/secrets/a.b", {"value": "v"}) == (400, "BadParameter")


def send(driven, method, target, body=None):
    """Past the SDK: status and code."""
    import requests

    if "?" not in target and not target.endswith("/"):
        target += f"?api-version={DESCRIPTION['api_version']}"
    response = requests.request(
        method,
        f"https://{driven.vault.host}{target}",
        json=body,
        headers={"Authorization": f"Bearer {driven.server.token_for('owner')}"},
        timeout=10,
    )
    return response.status_code, response.json().get("error", {}).get("code")


class TestErrors:
    """Each recorded body, provoked at the double."""

    def provoke(self, driven, when):
        client, vault = driven.client, driven.vault
        client.set_secret("some", "value")
        if when == "no right":
            vault.unassign("owner")
        elif when == "disabled":
            disable(vault, "some")
        elif when in {"deleted", "being deleted", "being recovered"}:
            secret = secrets_of(vault).by_name["some"]
            secret.state, secret.until = (
                when.replace("being deleted", "deleting").replace("being recovered", "recovering"),
                vault.now() + 1e6,
            )
        elif when == "throttled":
            vault.throttle()
        calls = {
            "unknown": lambda: client.get_secret("unknown"),
            "not deleted": lambda: client.get_deleted_secret("some"),
        }
        writing = lambda: client.set_secret("some", "value")  # noqa: E731
        in_transition = when in {"deleted", "being deleted", "being recovered"}
        return calls.get(when, writing if in_transition else lambda: client.get_secret("some"))

    @pytest.mark.parametrize(
        "recorded", [e for e in ERRORS if e["status"] != 401], ids=lambda e: e["when"]
    )
    def test_the_body_is_as_recorded(self, recorded, driven):
        from azure.core.exceptions import HttpResponseError

        call = self.provoke(driven, recorded["when"])
        with pytest.raises(HttpResponseError) as caught:
            call()
        self.compare(recorded, caught.value.status_code, caught.value.response.json())

    def test_who_brings_no_token_is_told_where_to_get_one(self, key_vault):
        from servers.key_vault import Fault

        with pytest.raises(Fault) as caught:
            key_vault.authenticate(None, "v.vault.azure.net")
        recorded = next(e for e in ERRORS if e["status"] == 401)
        self.compare(recorded, caught.value.status, caught.value.body)
        challenge = caught.value.headers[recorded["header"]]
        assert 'resource="https://vault.azure.net"' in challenge
        assert 'authorization="https://login.microsoftonline.com/' in challenge

    def compare(self, recorded, status, body):
        check(body, "KeyVaultError", recorded["when"])
        error = body["error"]
        assert status == recorded["status"]
        assert error["code"] == recorded["code"]
        assert error.get("innererror", {}).get("code") == recorded["innererror"]
        pattern = ".*".join(re.escape(part) for part in recorded["message"].split("*"))
        assert re.match(pattern, error["message"], re.DOTALL), error["message"]
