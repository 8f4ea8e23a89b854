"""``--metrics``: what Prometheus sees of a run, and what its alerts make of that."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.fleets import Accounts, place

ROOT = Path(__file__).parents[2]
RULES = ROOT / "examples" / "prometheus" / "cmzon-rotation.rules.yml"
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(promtool is None, reason="not run: promtool (no binary)")


@pytest.fixture
def fleet(cli, api):
    """Four accounts, one of which is broken."""
    assert cli("keygen", "token.key").code == 0
    accounts = Accounts(cli.folder, 3)
    accounts.change('we"ird\\', token=place("weird", key="missing.key"), name="weird")
    return accounts


def samples(path):
    """(metric, label values…) → value, as Prometheus reads them."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_a_run_over_all_is_measured_account_by_account_and_as_a_whole(cli, fleet):
    before = time.time()
    assert cli("rotate", "--all", "--metrics", "cmzon.prom").code == 1
    after = time.time()
    found = samples(cli.folder / "cmzon.prom")
    assert {state: found["cmzon_rotation_accounts", state] for state in ("done", "failed")} == {
        "done": 3,
        "failed": 1,
    }
    assert found["cmzon_rotation_accounts", "waiting"] == 0
    assert found["cmzon_rotation_account_state", "acme-000", "done"] == 1
    assert found["cmzon_rotation_account_state", 'we"ird\\', "failed"] == 1
    due = found["cmzon_rotation_next_due_timestamp_seconds", "acme-001"]
    assert before < due - 30 * 86400 + 60
    assert due - 30 * 86400 < after + 60
    assert before <= found["cmzon_rotation_last_run_timestamp_seconds", "acme-002"] <= after
    assert 0 < found["cmzon_rotation_last_run_duration_seconds", "acme-002"] < after - before
    for kind in ("issue", "stage", "promote"):
        assert found["cmzon_rotation_run_actions", kind, "ok"] == 3
    assert found["cmzon_rotation_run_actions", "revoke", "failed"] == 0
    assert found["cmzon_rotation_accounts_not_begun",] == 0
    assert before <= found["cmzon_rotation_run_timestamp_seconds",] <= after


def test_no_label_holds_an_id_or_a_uri(cli, fleet):
    assert cli("rotate", "--all", "--metrics", "cmzon.prom").code == 1
    text = (cli.folder / "cmzon.prom").read_text()
    assert "tok_" not in text
    assert "file:" not in text


def test_one_account_is_measured_without_the_totals_so_that_files_can_lie_side_by_side(cli, fleet):
    assert cli("rotate", "--account", "acme-000", "--metrics", "one.prom").code == 0
    found = samples(cli.folder / "one.prom")
    assert found["cmzon_rotation_account_state", "acme-000", "done"] == 1
    assert {name for name, *labels in found if "acme-000" not in labels} == set()


def test_a_place_without_an_account_goes_by_the_name_of_its_tokens(cli, fleet, sealed_uri):
    assert cli("rotate", sealed_uri, "--name", "mine", "--metrics", "one.prom").code == 0
    assert ("cmzon_rotation_account_state", "mine", "done") in samples(cli.folder / "one.prom")


@pytest.fixture
def sealed_uri():
    return "file:alone.sealed?key=keyfile:token.key"


def test_metrics_that_cannot_be_written_are_told_after_what_was_done(cli, fleet):
    (cli.folder / ".m.prom.lock").mkdir()
    done = cli("rotate", "--account", "acme-000", "--metrics", "m.prom")
    assert done.code == 1
    assert "done" in done.out
    assert "error: m.prom — " in done.err


@needs_promtool
def test_prometheus_own_checker_finds_no_fault(cli, fleet):
    assert cli("rotate", "--all", "--metrics", "cmzon.prom").code == 1
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=(cli.folder / "cmzon.prom").read_bytes(),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@needs_promtool
def test_the_alerts_go_off_when_they_should_and_only_then(tmp_path):
    script = tmp_path / "alerts.test.yml"
    cases = Path(__file__).with_name("alerts.test.yml").read_text()
    script.write_text(cases.replace("{RULES}", str(RULES)))
    checked = subprocess.run(
        [promtool, "test", "rules", str(script)], capture_output=True, check=False, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_speak_of_metrics_that_are_written(cli, fleet):
    assert cli("rotate", "--all", "--metrics", "cmzon.prom").code == 1
    written = {name for name, *_ in samples(cli.folder / "cmzon.prom")}
    spoken_of = set(re.findall(r"cmzon_\w+", RULES.read_text()))
    assert len(spoken_of) == 3
    assert spoken_of <= written
