"""The end of a test run names every real backend that it went without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[1] / "servers" / "closing_summary.py"

TESTS = """
import pytest

@pytest.fixture
def server():
    pytest.skip("not run: openbao (no binary)")

def test_one(server): pass
def test_two(server): pass
def test_three(): pytest.skip("not for this platform")
def test_four(): pass
"""


def closing_lines(folder, tests):
    """The lines of the summary's section, of a run of its own."""
    shutil.copy(PLUGIN, folder / "conftest.py")
    (folder / "test_it.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "."],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
        env={
            **os.environ,
            "PYTEST_ADDOPTS": "",
            "COLUMNS": "80",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
    )
    return [line for line in done.stdout.splitlines() if "not run" in line]


def test_each_missing_backend_is_named_once_with_its_reason_and_how_many_tests_it_cost(tmp_path):
    assert closing_lines(tmp_path, TESTS)[1:] == ["not run: openbao (no binary) [2]"]


def test_a_module_that_needs_a_missing_package_is_named_too(tmp_path):
    tests = 'import pytest\npytest.importorskip("no_such", reason="not run: redis (no package)")\n'
    assert "not run: redis (no package) [1]" in closing_lines(tmp_path, tests)


def test_a_run_that_missed_nothing_says_nothing(tmp_path):
    assert closing_lines(tmp_path, "def test_it(): pass\n") == []
