"""examples/compose: what Compose reads in it, and the rotator's own command, run with its settings.

The containers themselves need an engine, which tests do not have: paths are led elsewhere, and the
programs run as they would in them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmzon_secrets.sealing_keys.key_file import generate_key_file

yaml = pytest.importorskip("yaml", reason="not run: compose (no yaml)")

SOURCE = Path(__file__).parents[2] / "src"
SECRETS = "/run/secrets/"
PROGRAM = """
from cmzon_secrets import Client, open_provider
with Client(open_provider()) as client:
    client.send_message("+1234567890", "Hello from CMzon!")
"""


@pytest.fixture
def file(examples):
    return examples / "compose" / "compose.yaml"


@pytest.fixture
def project(file):
    return yaml.safe_load(file.read_text())


@pytest.fixture
def services(project):
    return project["services"]


def mounts(service):
    """Path in the container → (path on the host, whether it can be written)."""
    parts = (volume.split(":") for volume in service["volumes"])
    return {where: (host, rest != ["ro"]) for host, where, *rest in parts}


def test_a_container_can_do_next_to_nothing_and_is_not_root(services, examples):
    dockerfile = (examples / "kubernetes" / "Dockerfile").read_text()
    for service in services.values():
        (user, group) = service["user"].split(":")
        assert user == group == re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)[1]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_of_it_is_a_secret_and_the_key_comes_as_a_file(project, services):
    assert project["secrets"] == {"token.key": {"file": "./keys/token.key"}}
    for service in services.values():
        assert service["secrets"] == ["token.key"]
        assert service["environment"] == {
            "CMZON_TOKEN_URI": "file:/token/acme.sealed",
            "CMZON_SECRETS_KEY": f"keyfile:{SECRETS}token.key",
        }


def test_the_program_reads_the_token_where_the_rotator_writes_it_and_sees_no_admin_token(services):
    # A file is sealed for its path: both have to see it at the same one.
    assert mounts(services["rotator"]) == {
        "/token": ("./token", True),
        "/admin": ("./admin", False),
    }
    assert mounts(services["shop"]) == {"/token": ("./token", False)}


def test_the_key_does_not_lie_in_a_folder_that_a_container_sees(project, services):
    folders = {host for service in services.values() for host, _ in mounts(service).values()}
    assert str(Path(project["secrets"]["token.key"]["file"]).parent) not in {
        str(Path(folder)) for folder in folders
    }


def test_a_rotator_that_stopped_is_begun_again_and_one_that_is_told_to_stop_does(services):
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert service["init"] is True  # a shell that is process 1 ignores SIGTERM


def test_compose_itself_takes_the_file(file):
    compose = ["docker", "compose", "--file", file, "config", "--quiet"]
    if (
        shutil.which("docker") is None
        or subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("not run: docker compose (not installed)")
    done = subprocess.run(compose, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Machine:
    """The services' commands on this machine, in folders of this test instead of containers."""

    def __init__(self, folder, file, program, emulator):
        self.folder, self.emulator = folder, emulator
        led = re.sub(r"(?<=[\":])/(token|admin)\b", rf"{folder}/\1", file.read_text())
        led = led.replace(SECRETS, f"{folder}/keys/")
        self.services = yaml.safe_load(led)["services"]
        self._path = f"{program.parent}:{os.environ['PATH']}"
        for name in ("token", "admin", "keys"):
            (folder / name).mkdir(mode=0o700)
        generate_key_file(folder / "keys" / "token.key")
        self._let_sleep_end_the_loop(program.parent / "sleep")

    @staticmethod
    def _let_sleep_end_the_loop(sleep):
        sleep.write_text('#!/bin/sh\necho "slept $1"\nkill $PPID\n')
        sleep.chmod(0o755)

    def run(self, service, command, *, given=None):
        environment = {
            "PATH": self._path,
            "PYTHONPATH": str(SOURCE),
            "CMZON_BASE_URL": self.emulator.base_url,
            **self.services[service]["environment"],
        }
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def rotate(self):
        """The rotator's command until it sleeps, which is when it is stopped here."""
        return self.run("rotator", self.services["rotator"]["entrypoint"])

    def put_the_admin_token(self):
        put = ["cmzon-secrets", "put", f"file:{self.folder}/admin/acme.sealed"]
        done = self.run("rotator", put, given=self.emulator.admin_token)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def machine(tmp_path, file, program, cmzon_emulator):
    return Machine(tmp_path, file, program, cmzon_emulator)


@pytest.mark.slow
def test_the_rotator_makes_the_first_token_and_the_program_sends_with_it(machine):
    machine.put_the_admin_token()
    ran = machine.rotate()
    assert "slept 3600" in ran.stdout, ran.stderr
    sent = machine.run("shop", [sys.executable, "-c", PROGRAM])
    assert sent.returncode == 0, sent.stderr
    assert machine.emulator.stats()["messages"] == 1
    assert machine.emulator.admin_token not in ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_health_check_says_whether_there_is_a_token(machine):
    (kind, *check) = machine.services["rotator"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert machine.run("rotator", check).returncode != 0
    machine.put_the_admin_token()
    machine.rotate()
    assert machine.run("rotator", check).returncode == 0


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_does_not_end_the_loop(machine):
    ran = machine.rotate()
    assert "error:" in ran.stderr
    assert "slept 3600" in ran.stdout
