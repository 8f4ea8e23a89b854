"""The Azure Function: the example as Azure's host loads it, on Key Vault's double and on sealed files."""

import importlib.util
import json
import logging
import secrets
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cmzon_secrets import open_store
from cmzon_secrets.accounts import policy_of
from cmzon_secrets.clock import Clock
from cmzon_secrets.config import account_from_environment
from cmzon_secrets.errors import ConfigurationError, RotationError
from cmzon_secrets.rotation.places import require_place
from cmzon_secrets.testing.conformance.leaks import everything_logged, must_hide

pytest.importorskip("azure.functions", reason="not run: azure-functions (not installed)")

EXAMPLE = Path(__file__).parents[2] / "examples" / "azure-function"
SPEED = 50


@pytest.fixture
def function(monkeypatch):
    """What the host finds when it loads ``function_app.py``: the one function and its bindings."""
    monkeypatch.delitem(sys.modules, "function_app", raising=False)
    spec = importlib.util.spec_from_file_location("function_app", EXAMPLE / "function_app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = module.app.get_functions()
    return found


@pytest.fixture
def on_time(function):
    """Calls the function as the host does when its time has come."""
    timer = SimpleNamespace(past_due=False, schedule_status=None, schedule=None)
    return lambda: function.get_user_function()(timer=timer)


@pytest.fixture
def told(caplog):
    """The lines of JSON in the rotation's log."""
    caplog.set_level(logging.INFO)
    return lambda: [
        json.loads(r.getMessage()) for r in caplog.records if r.name == "cmzon_secrets.rotation"
    ]


def test_it_runs_every_hour_and_not_whenever_it_is_deployed(function):
    (trigger,) = [b.get_dict_repr() for b in function.get_bindings()]
    assert trigger["type"] == "timerTrigger"
    assert trigger["schedule"] == "0 17 * * * *"
    assert not trigger.get("runOnStartup")
    assert function.get_function_name() == "rotate"


def test_it_rotates_a_token_in_key_vault_by_its_managed_identity(
    on_time, told, key_vault, cmzon_emulator, configure, monkeypatch
):
    monkeypatch.setattr(Clock, "sleep", lambda _, seconds: time.sleep(max(0, seconds) / SPEED))
    vault = key_vault.vault(speed=SPEED)
    uri = f"azurekeyvault://{vault.host}/secrets/acme-{secrets.token_hex(4)}"
    uri += "?credential=managed&client_id=owner"
    configure(
        CMZON_TOKEN_URI=uri,
        CMZON_BASE_URL=cmzon_emulator.base_url,
        CMZON_ADMIN_URI="env:CMZON_TEST_ADMIN",
        CMZON_TEST_ADMIN=cmzon_emulator.admin_token,
        CMZON_ROTATION_NAME="acme",
    )
    with open_store(uri) as store:
        require_place(store, create=True)
        on_time()
        current = store.get()
    assert [line["event"] for line in told() if "event" in line] == [
        "token_issued",
        "token_verified",
        "token_staged",
        "token_promoted",
        "rotation_finished",
    ]
    assert told()[-1]["item"]["account"] == "acme"
    assert told()[1]["token_id"] == current.id


def test_a_failed_account_fails_the_invocation_when_the_others_are_done(on_time, told, shop):
    shop.many("good", "bad")
    (shop.folder / "bad").write_text("no sealed file")
    with pytest.raises(RotationError, match="1 of 2 failed, the first: account bad"):
        on_time()
    states = {line["item"]["account"]: line["item"]["state"] for line in told() if "item" in line}
    assert states == {"good": "done", "bad": "failed"}


def test_what_needs_a_person_is_a_warning_and_what_failed_an_error(on_time, shop, caplog):
    shop.one(CMZON_ISSUER="manual")
    on_time()
    assert [r.levelname for r in caplog.records if "attention" in r.getMessage()] == ["WARNING"]


def test_a_setting_that_is_wrong_fails_the_invocation_and_names_it(on_time, shop):
    shop.one(CMZON_ROTATION_GRACE="soon")
    with pytest.raises(ConfigurationError, match="CMZON_ROTATION_GRACE"):
        on_time()


def test_its_log_holds_no_token(on_time, shop, caplog):
    caplog.set_level(logging.DEBUG)
    shop.one()
    on_time()
    value = shop.held().current.reveal()
    must_hide(everything_logged(caplog.records), value, shop.emulator.admin_token)


# ── the files beside it ─────────────────────────────────────────────────────────────────────────


def test_its_settings_are_a_policy_that_can_work():
    values = json.loads((EXAMPLE / "local.settings.json.example").read_text())["Values"]
    account = account_from_environment(values)
    assert account.token.startswith("azurekeyvault://")
    assert policy_of(account).name == "acme"


def test_the_host_stops_it_only_after_it_has_stopped_beginning():
    from cmzon_secrets.runtimes.azure_function import TIME_LIMIT

    host = json.loads((EXAMPLE / "host.json").read_text())
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    assert (hours * 60 + minutes) * 60 + seconds >= TIME_LIMIT + 30


def test_its_requirements_bring_the_adapters_for_azure():
    assert "cmzon-secrets[azure]" in (EXAMPLE / "requirements.txt").read_text().split()
