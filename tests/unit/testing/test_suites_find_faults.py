"""A conformance suite is worth what it finds: each faulty backend fails the test made for it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

FAULTY = Path(__file__).with_name("faulty_backends.py")


def finds() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("faulty_backends", FAULTY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FINDS


def test_each_faulty_backend_fails_the_test_that_is_about_its_fault():
    expected = finds()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
        + ["--hypothesis-seed=1"]  # what is found must not hang on luck
        + [f"{FAULTY}::{cls}::{test}" for cls, test in expected.items()],
        capture_output=True,
        check=False,
        text=True,
        timeout=110,
        cwd=FAULTY.parents[3],
    )
    failed = set(re.findall(r"^FAILED \S*::(Test\w+)::", run.stdout, re.MULTILINE))
    assert set(expected) - failed == set(), run.stdout
    assert "error" not in run.stdout.splitlines()[-1]
