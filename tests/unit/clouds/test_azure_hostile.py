"""Answers that no Key Vault gives: they repeat what was sent, or are of another shape."""

import contextlib
import json
import logging

import pytest

from cmzon_secrets import errors
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from cmzon_secrets.providers.azure_secrets import Secret
from cmzon_secrets.sealing_keys.azure_key import AzureKey
from cmzon_secrets.testing.conformance.leaks import everything_logged, shown
from cmzon_secrets.tokens import Token
from servers import key_vault as double
from servers.key_vault import OWNER

VALUE = "cmz_live_THESECRETTOKEN0123456789abcdef"
DATA_KEY = bytes(range(32))
IN_THE_VAULT = "https://vault.vault.azure.net"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("cmzon_secrets.clouds.azure_errors._ATTEMPTS", 1)


@pytest.fixture
def vault(key_vault):
    return Vault(key_vault.vault().host, Login("managed", client_id=OWNER))


@pytest.fixture
def store(vault):
    return AzureKeyVault(vault, "token")


@pytest.fixture
def answering(key_vault, monkeypatch):
    """``answering(make)``: each request that is logged in is answered ``make(method, body)``: a
    status, and an object for JSON or bytes for anything else."""

    def answer_by(make):
        real = key_vault.answer

        def answer(vault, method, path, headers, body):
            if not headers.get("Authorization"):
                return real(vault, method, path, headers, body)
            return make(method, body)

        monkeypatch.setattr(key_vault, "answer", answer)

    send = double._VaultHandler.send

    def raw(self, status, body, headers):
        if not isinstance(body, bytes):
            send(self, status, body, headers)
            return
        self.send_response_only(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    monkeypatch.setattr(double._VaultHandler, "send", raw)
    return answer_by


def refused(call):
    with pytest.raises(errors.CMzonSecretsError) as caught:
        errors.shielded(call)()
    return caught.value


def must_hide_each_part(text, value):
    """Also what is left of it when a message is cut."""
    parts = {value[at : at + 8] for at in range(len(value) - 7)}
    assert not [part for part in parts if part in text]


def all_of(error, caplog):
    """Whatever can be printed of it, and what was kept behind its causes."""
    behind = error
    texts = [shown(error), str(getattr(error, "hint", "")), everything_logged(caplog.records)]
    while behind is not None:
        texts += [str(behind), repr(vars(behind))]
        behind = behind.__context__ or behind.__cause__
    return "\n".join(texts)


# what was sent comes back

ECHOES = {
    "message": lambda sent: {"error": {"code": "BadParameter", "message": f"blocked: {sent}"}},
    "code": lambda sent: {"error": {"code": sent, "message": "x"}},
    "inner code": lambda sent: {
        "error": {"code": "Forbidden", "message": "x", "innererror": {"code": sent}}
    },
    "action": lambda sent: {"error": {"code": "Forbidden", "message": f"Action: '{sent}'"}},
    "details": lambda sent: {"error": {"code": "X", "details": [{"code": sent, "message": sent}]}},
    "cut short": lambda sent: {"error": {"code": "X", "message": "y" * 170 + sent[:-5]}},
    "another shape": lambda sent: {"errors": [sent, {"message": sent}]},
    "html": lambda sent: f"<html><title>{sent}</title>{sent}</html>".encode(),
    "text": lambda sent: f"\x1b[31m{sent}\n{sent}\x00".encode(),
    "json that is no object": lambda sent: json.dumps([sent]).encode(),
}


@pytest.mark.parametrize("status", [200, 400, 403, 500])
@pytest.mark.parametrize("shape", ECHOES)
def test_a_value_that_comes_back_is_not_shown(vault, answering, caplog, status, shape):
    caplog.set_level(logging.DEBUG)

    def answer(_method, body):
        return status, ECHOES[shape](json.loads(body)["value"])

    answering(answer)
    calls = vault.begin("azurekeyvault://vault/secrets/token")
    error = refused(lambda: Secret(calls, "token").put(VALUE, {}))
    must_hide_each_part(all_of(error, caplog), VALUE)
    assert error.message.isprintable()


@pytest.mark.parametrize("shape", ECHOES)
def test_nor_is_a_data_key(vault, answering, caplog, shape):
    caplog.set_level(logging.DEBUG)
    sent = []

    def answer(_method, body):
        sent.append(json.loads(body)["value"])
        return 403, ECHOES[shape](sent[-1])

    answering(answer)
    error = refused(lambda: AzureKey(vault, "key").wrap(DATA_KEY))
    assert sent
    must_hide_each_part(all_of(error, caplog), sent[0])


@pytest.mark.parametrize("shape", ["message", "html"])
def test_nor_is_what_a_verb_of_the_store_sends(store, answering, caplog, key_vault, shape):
    caplog.set_level(logging.DEBUG)
    store.create()
    real = key_vault.answer
    answered = []

    def answer(method, body):
        answered.append(method)
        return 403, ECHOES[shape](json.loads(body)["value"])

    answering(answer)
    hostile = key_vault.answer

    def puts_only(vault, method, *rest):
        return (hostile if method == "PUT" else real)(vault, method, *rest)

    key_vault.answer = puts_only
    error = refused(lambda: store.stage(Token(VALUE)))
    assert answered == ["PUT"]
    must_hide_each_part(all_of(error, caplog), VALUE)


# another shape

DATES = {"created": 1_700_000_000, "updated": 1_700_000_000, "enabled": True}
VERSION = {
    "value": VALUE,
    "id": f"{IN_THE_VAULT}/secrets/token/{'0' * 32}",
    "attributes": DATES,
}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"value": VALUE},
        VERSION | {"id": 5},
        VERSION | {"id": "x"},
        VERSION | {"id": ""},
        VERSION | {"id": f"{IN_THE_VAULT}/secrets/token"},
        VERSION | {"id": {"x": 1}},
        VERSION | {"attributes": None},
        VERSION | {"attributes": {}},
        VERSION | {"attributes": [5]},
        VERSION | {"attributes": "x"},
        VERSION | {"attributes": DATES | {"created": "x"}},
        VERSION | {"attributes": DATES | {"created": 10**30}},
        VERSION | {"attributes": DATES | {"created": {}}},
        VERSION | {"tags": [5]},
        VERSION | {"tags": "x"},
        VERSION | {"tags": 5},
        b"",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda answer: repr(answer)[:60],
)
@pytest.mark.parametrize("verb", ["get", "versions"])
def test_an_answer_of_another_shape_is_an_outage(store, answering, caplog, answer, verb):
    answering(lambda *_: (200, answer))
    error = refused(getattr(store, verb))
    assert type(error) is errors.ProviderUnavailable
    must_hide_each_part(all_of(error, caplog), VALUE)


@pytest.mark.parametrize(
    "more",
    [
        {"value": {"a": VALUE}},
        {"value": [5]},
        {"value": 5},
        {"attributes": DATES | {"created": 253_402_300_799}},
        {"attributes": DATES | {"created": -(10**9)}},
        {"attributes": DATES | {"exp": 10**30}},
        {"attributes": DATES | {"enabled": "no"}},
        {"tags": {"cmzon-sha256": 5}},
        {"tags": {"cmzon-sha256": {"a": 1}}},
        {"tags": {"cmzon-id": ["x"]}},
        {"tags": {"cmzon-base": ["x"]}},
        {"tags": {"cmzon-base": {"x": 1}, "cmzon-prev": 5, "cmzon-src": []}},
        {"tags": {"cmzon-state": ["empty"]}},
        {"tags": {5: 5}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("verb", ["get", "versions"])
def test_what_cannot_be_in_a_version_raises_nothing_but_ours(store, answering, more, verb):
    whole = VERSION | more

    def answer(_method, _body):
        return 200, whole | {"value": [whole]} if listing.pop(0) else whole

    listing = [False] * 9 if verb == "get" else [False, True] * 9
    answering(answer)
    with contextlib.suppress(errors.CMzonSecretsError):  # some are valid
        getattr(store, verb)()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"kid": 5, "value": "AAAA"},
        {"kid": f"{IN_THE_VAULT}/keys/key/{'0' * 32}", "value": 5},
        {"kid": f"{IN_THE_VAULT}/keys/key/{'0' * 32}", "value": "ä"},
        b"null",
        b"[]",
        b"<html>",
        b"{" * 100_000,
    ],
    ids=lambda answer: repr(answer)[:40],
)
def test_a_wrapping_of_another_shape_is_an_outage(vault, answering, answer):
    answering(lambda *_: (200, answer))
    error = refused(lambda: AzureKey(vault, "key").wrap(DATA_KEY))
    assert type(error) is errors.ProviderUnavailable


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 500])
@pytest.mark.parametrize(
    "body",
    [{"error": 5}, {"error": {"code": {}}}, {"error": {"innererror": [5]}}, b"null", b"\xff", b""],
    ids=repr,
)
def test_an_error_of_another_shape_is_told_by_its_status(vault, answering, status, body):
    answering(lambda *_: (status, body))
    calls = vault.begin("azurekeyvault://vault/secrets/token", timeout=0.5)
    error = refused(lambda: calls.ask(calls.secrets.get_secret, "token"))
    assert str(status) in error.message


def test_a_long_answer_is_not_read_to_its_end(store, answering, monkeypatch):
    monkeypatch.setattr("cmzon_secrets.clouds.azure_wire.MAX_ANSWER", 100_000)
    answering(lambda *_: (200, VERSION | {"tags": {"x": "y" * 200_000}}))
    assert type(refused(store.get)) is errors.ProviderUnavailable
