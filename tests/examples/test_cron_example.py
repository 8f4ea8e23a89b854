"""examples/cron: the line that cron would hand to the shell, run by the shell."""

import json
import re
import subprocess
import urllib.request

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def crontab(examples):
    """The settings and the jobs of the file; a job is (five fields, user, command)."""
    text = (examples / "cron" / "cmzon-secrets").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    jobs = [re.match(r"((?:\S+\s+){5})(\S+)\s+(.*)", line) for line in lines]
    return settings, [(*job[1].split(), job[2], job[3]) for job in jobs if job]


@pytest.fixture
def as_cron(crontab, fleet, program, tmp_path):
    """A function: run the job as cron does, all accounts at once; what cron would mail."""
    settings, [(*_, command)] = crontab
    assert "--jitter 10m" in command
    command = command.replace("--jitter 10m", "--jitter 0.1")
    environment = {**settings, **fleet, "PATH": f"{program.parent}:{settings['PATH']}"}

    def run():
        return subprocess.run(
            [settings["SHELL"], "-c", command],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        ).stdout

    return run


def test_it_is_one_job_of_a_user_of_its_own_without_the_sign_that_cron_takes_for_a_line_break(
    crontab,
):
    settings, [(*fields, user, command)] = crontab
    assert re.fullmatch(r"\d+ \* \* \* \*", " ".join(fields))
    assert (user, settings["MAILTO"]) == ("cmzon-secrets", "ops@example.com")
    assert "%" not in command


def test_a_good_run_is_silent_and_rotates_every_account(as_cron, tmp_path):
    assert as_cron() == ""
    assert {path.name for path in tmp_path.glob("*.sealed")} == {"acme.sealed", "globex.sealed"}


def test_a_run_that_failed_is_mailed_with_its_reason(as_cron, cmzon_emulator):
    fault = json.dumps({"route": "POST /v1/tokens", "status": 403, "count": 1}).encode()
    urllib.request.urlopen(f"{cmzon_emulator.base_url}/_emulator/faults", fault, 10).close()
    mail = as_cron()
    assert "failed" in mail
    assert "Insufficient permissions" in mail
    assert cmzon_emulator.admin_token not in mail
