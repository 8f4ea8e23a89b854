"""The fixture ``cmzon_emulator`` that users of the package get."""

import os
import subprocess
import sys

TEST = """
import httpx2

def test_the_fixture_is_a_running_emulator(cmzon_emulator):
    url = cmzon_emulator.base_url + "/v1/tokens"
    headers = {"Authorization": "Bearer " + cmzon_emulator.admin_token}
    with httpx2.Client(trust_env=False) as http:
        assert http.get(url, headers=headers).status_code == 200

def test_each_test_has_its_own(cmzon_emulator):
    assert cmzon_emulator.stats()["by_status"] == {}
"""
BARE = """
import sys

def test_nothing_is_imported_that_no_test_asked_for():
    heavy = {"starlette", "uvicorn", "httpx2", "cryptography", "cmzon_secrets.emulator"}
    assert not heavy & set(sys.modules)
"""
PLUGIN = ("-p", "cmzon_secrets.testing.pytest_plugin", "-p", "no:cacheprovider")


def run(path, test):
    (path / "test_it.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *PLUGIN, str(path)],
        capture_output=True,
        check=False,
        text=True,
        cwd=path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


def test_the_fixture_starts_an_emulator_for_each_test(tmp_path):
    ran = run(tmp_path, TEST)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_a_run_that_does_not_use_it_pays_nothing(tmp_path):
    ran = run(tmp_path, BARE)
    assert ran.returncode == 0, ran.stdout
