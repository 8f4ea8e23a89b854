"""examples/systemd: what systemd says of the units, and whether the program lives within them."""

import configparser
import os
import re
import shlex
import shutil
import subprocess

import pytest

from cmzon_secrets.sealing_keys.key_file import generate_key_file

pytestmark = pytest.mark.slow

UNITS = ("cmzon-secrets.service", "cmzon-secrets.timer")


ETC, VAR = "/etc/cmzon-secrets", "/var/lib/cmzon-secrets"


@pytest.fixture
def units(examples, program, tmp_path):
    """Copies, where the program is installed here."""
    for name in UNITS:
        text = (examples / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/cmzon-secrets", str(program)))
    return tmp_path


@pytest.fixture
def service(examples):
    """The settings of the service; each is a list, for some stand there more than once."""
    settings = {}
    for line in (examples / "systemd" / UNITS[0]).read_text().splitlines():
        if re.match(r"\w+=", line):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings


def analyze(*words, folder):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not run: systemd (no systemd-analyze)")
    return subprocess.run(
        ["systemd-analyze", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_systemd_finds_nothing_wrong_in_the_units(units):
    done = analyze("verify", *(f"./{name}" for name in UNITS), folder=units)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_calls_the_service_well_confined(units):
    done = analyze("security", "--offline=true", f"./{UNITS[0]}", folder=units)
    assert float(re.search(r"exposure level for .*: ([\d.]+)", done.stdout)[1]) < 2.0


def test_the_timer_makes_up_for_what_was_missed_and_spreads_machines(examples):
    timer = configparser.ConfigParser(interpolation=None, strict=True)
    timer.optionxform = str
    timer.read(examples / "systemd" / UNITS[1])
    assert dict(timer["Timer"]) == {
        "OnCalendar": "hourly",
        "RandomizedDelaySec": "10min",
        "FixedRandomDelay": "yes",
        "Persistent": "yes",
    }


def test_the_run_uses_no_system_call_that_the_service_forbids(service, fleet, program, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("not run: strace (not installed)")
    words = shlex.split(service["ExecStart"][0])[1:]
    trace = ["strace", "--follow-forks", "--summary-only", "--output=calls", program, *words]
    subprocess.run(trace, cwd=tmp_path, env=fleet, check=True, capture_output=True)
    may: set[str] = set()
    for setting in service["SystemCallFilter"]:
        named = [calls_in(group, tmp_path) for group in setting.removeprefix("~").split()]
        may = may.difference(*named) if setting.startswith("~") else may.union(*named)
    lines = (tmp_path / "calls").read_text().splitlines()
    used = {line.split()[-1] for line in lines if re.match(r"\s*\d", line)} - {"total"}
    assert "openat" in used
    assert used - may == set()


def calls_in(group, folder):
    """The names of the system calls in a group of systemd's."""
    listed = analyze("syscall-filter", group, folder=folder).stdout
    names = re.findall(r"^    (@?[\w-]+)$", listed, re.MULTILINE)
    nested = [calls_in(name, folder) for name in names if name.startswith("@")]
    return {name for name in names if not name.startswith("@")}.union(*nested)


def test_systemd_finds_nothing_wrong_in_what_is_added_to_the_program(examples, tmp_path):
    added = tmp_path / "shop.service.d" / "cmzon-secrets.conf"
    added.parent.mkdir()
    shutil.copy(examples / "systemd" / "shop.service.conf", added)
    unit = "[Unit]\nDescription=What sends\n[Service]\nExecStart=/bin/true\n"
    (tmp_path / "shop.service").write_text(unit)
    done = analyze("verify", "./shop.service", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


class Machine:
    """The folders of the example in one of this test, and what its units set and are given."""

    def __init__(self, folder, examples, program, emulator):
        self.folder, self.program, self._examples = folder, program, examples
        self._given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(examples.parent / "src"),
            "CMZON_BASE_URL": emulator.base_url,
        }
        (folder / "etc").mkdir()
        (folder / "var").mkdir(mode=0o700)
        for name in ("token.key", "admin.key"):
            generate_key_file(folder / "etc" / name)
        (folder / "etc" / "cmzon-secrets.toml").write_text(self.text("cmzon-secrets.toml"))

    def text(self, name):
        text = (self._examples / "systemd" / name).read_text()
        for place, here in ((ETC, "etc"), (VAR, "var"), ("%d", f"run/{name}")):
            text = text.replace(place, str(self.folder / here))
        return text

    def environment_of(self, unit):
        """What the unit sets; it finds what it loads, and nothing else, in a folder of its own."""
        text = self.text(unit)
        loaded = self.folder / "run" / unit
        loaded.mkdir(parents=True)
        for name, source in re.findall(r"^LoadCredential=(.+):(.+)$", text, re.MULTILINE):
            shutil.copy(source, loaded / name)
        return {**self._given, **dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))}

    def by_hand(self, *words, given=None):
        """As root types it in docs/deploying.md, both keys in hand; but as the user who tests."""
        page = (self._examples.parent / "docs" / "deploying.md").read_text()
        exports = "\n".join(
            re.findall(
                r"^export .*/etc/cmzon-secrets.*|^export CMZON_ADMIN_URI=.*", page, re.MULTILINE
            )
        )
        exports = exports.replace(ETC, f"{self.folder}/etc").replace(VAR, f"{self.folder}/var")
        return self._ran(
            ["sh", "-ec", f"{exports}\n{shlex.join([str(self.program), *words])}"],
            self._given,
            given,
        )

    def run(self, words, environment):
        return self._ran([self.program, *words], environment)

    def _ran(self, command, environment, given=None):
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


@pytest.fixture
def machine(tmp_path, examples, program, cmzon_emulator):
    """As docs/deploying.md has it set up: the admin token is put, sealed with the key of its own."""
    made = Machine(tmp_path, examples, program, cmzon_emulator)
    admin = f"file:{tmp_path}/var/admin.sealed?key=env:ADMIN_KEY"
    done = made.by_hand("put", admin, given=cmzon_emulator.admin_token)
    assert done.returncode == 0, done.stderr
    return made


def test_the_service_rotates_what_the_file_names_and_the_program_reads_it(
    machine, service, cmzon_emulator
):
    words = shlex.split(service["ExecStart"][0])[1:]
    rotated = machine.run(words, machine.environment_of("cmzon-secrets.service"))
    assert rotated.returncode == 0, rotated.stderr
    send = ["send", "--to", "+1234567890", "--text", "Hello"]
    sent = machine.run(send, machine.environment_of("shop.service.conf"))
    assert sent.returncode == 0, sent.stderr
    assert cmzon_emulator.stats()["messages"] == 1


@pytest.mark.parametrize(
    "key", ["", "?key=keyfile:{run}/token.key", "?key=keyfile:{run}/admin.key"]
)
def test_the_program_that_sends_cannot_open_the_admin_token(machine, cmzon_emulator, key):
    environment = machine.environment_of("shop.service.conf")
    place = f"file:{machine.folder}/var/admin.sealed"
    key = key.format(run=machine.folder / "run" / "shop.service.conf")
    done = machine.run(["get", place + key, "--reveal"], environment)
    assert done.returncode == 1
    assert cmzon_emulator.admin_token not in done.stdout + done.stderr


def test_the_program_that_sends_is_shut_off_from_the_admin_token_and_from_the_run(examples):
    """The file, what else lies in the folder, and the memory of another process of the same user."""
    added = (examples / "systemd" / "shop.service.conf").read_text().splitlines()
    assert {
        f"InaccessiblePaths={VAR}/admin.sealed",
        f"ReadOnlyPaths={VAR}",
        "PrivateUsers=yes",
        "LimitCORE=0",
    } <= set(added)


def test_what_is_typed_in_an_emergency_has_what_it_needs(machine, service, cmzon_emulator):
    words = shlex.split(service["ExecStart"][0])[1:]
    machine.run(words, machine.environment_of("cmzon-secrets.service"))
    killed = machine.by_hand("revoke", "--account", "acme", "--yes")
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout.endswith(" is dead\n")


def test_an_admin_token_that_has_the_other_key_still_is_sealed_anew(machine, cmzon_emulator):
    admin = f"file:{machine.folder}/var/admin.sealed"
    (machine.folder / "var" / "admin.sealed").unlink()
    machine.by_hand("put", admin, given=cmzon_emulator.admin_token)
    assert machine.by_hand("rekey", admin, "--key", "env:ADMIN_KEY").returncode == 0
    assert machine.by_hand("status", f"{admin}?key=env:ADMIN_KEY").returncode == 0
