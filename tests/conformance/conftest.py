"""Real servers that backends are proved against; where one is missing, its tests are not run."""

import os
import shutil
import subprocess
import sys
import time

import pytest

BUS = """<busconfig><type>session</type><listen>unix:dir={folder}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>"""


@pytest.fixture(scope="session")
def secret_service(tmp_path_factory):
    """A D-Bus session of its own with an unlocked GNOME Keyring: the environment to reach it."""
    for program in ("dbus-daemon", "gnome-keyring-daemon"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: keyring (no {program})")
    home = tmp_path_factory.mktemp("home")
    (home / "run").mkdir(mode=0o700)
    (home / "bus.conf").write_text(BUS.format(folder=home / "run"))
    bus = subprocess.Popen(
        ["dbus-daemon", f"--config-file={home / 'bus.conf'}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    environment = {
        **os.environ,
        "DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().strip(),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home / "run"),
    }
    (home / "data").mkdir()
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    daemon.stdin.write(b"login password")
    daemon.stdin.close()
    try:
        _wait_until_unlocked(environment)
        yield environment
    finally:
        for process in (daemon, bus):
            process.terminate()
            process.wait(10)
        bus.stdout.close()


def _wait_until_unlocked(environment):
    probe = "import keyring; keyring.set_password('probe', 'probe', 'probe')"
    deadline = time.monotonic() + 30
    while subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, check=False
    ).returncode:
        if time.monotonic() > deadline:
            pytest.fail("the keyring that was started does not answer")
        time.sleep(0.2)
