"""The real Terraform on a copy of a module, in an environment of its own.

The fixture ``terraform(tree, inside=…)`` copies a tree and gives a `Terraform` in the copy. Each of
its verbs is one run of the program, which has to end as ``expect`` says (0; ``None``: anyhow).

Nothing goes over the network: plug-ins come from a folder (``$TF_PLUGINS``, or one of the name
``tf-plugins`` at the root), or the test itself serves them (`servers.terraform_provider`).
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 100
"""Seconds for one run of the program; less than what pytest gives a test."""
LEFT_BEHIND = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__")
ALONE = {"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
"""It asks nobody for newer versions, and reads nothing of the user's."""
NOT_WRITTEN_BY_A_RUN = {"providers", "modules"}
"""Folders below ``.terraform``: plug-ins of hundreds of megabytes, and copies of what was given."""


def binary():
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("not run: terraform (not installed)")
    return found


@functools.cache
def plugin_folder():
    """Where plug-ins lie on this machine, or None."""
    if "TF_PLUGINS" in os.environ:
        return Path(os.environ["TF_PLUGINS"])
    root = Path("/")
    return next(iter([*root.glob("tf-plugins"), *root.glob("*/tf-plugins")]), None)


def needs_plugin(name):
    """Skip where there is no plug-in of this name: ``needs_plugin("aws")``."""
    folder = plugin_folder()
    if folder is None or not list(folder.glob(f"*/hashicorp/{name}/*")):
        pytest.skip(f"not run: terraform's provider {name} (no plug-in)")


def typed_without_questions(plugins):
    """The environment in which a person's own command lines take plug-ins from a folder and apply at once."""
    return {
        **ALONE,
        "TF_CLI_ARGS_init": f"-plugin-dir={plugins}",
        "TF_CLI_ARGS_apply": "-auto-approve -input=false",
    }


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def said(self):
        """Everything it said, with the frames and the wrapping of its messages undone."""
        return " ".join((self.out + self.err).translate(str.maketrans("", "", "│╷╵")).split())


class Terraform:
    """The program in ``folder``; of our environment it sees nothing but PATH."""

    def __init__(self, folder, environment=None, *, patience=PATIENCE):
        self.folder = Path(folder)
        self.patience = patience
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TF_CLI_ARGS": "-no-color",
            "TF_IN_AUTOMATION": "1",
            **ALONE,
            **(environment or {}),
        }

    def init(self, *arguments, expect=0):
        plugins = plugin_folder() or self.folder / ".no-plugins"
        plugins.mkdir(exist_ok=True)  # without a folder it would ask the registry
        options = ("-input=false", f"-plugin-dir={plugins}", *arguments)
        return self.run("init", *options, expect=expect)

    def validate(self, *arguments, expect=0):
        return self.run("validate", *arguments, expect=expect)

    def plan(self, *arguments, out="plan", expect=0, **variables):
        """``-var`` for each of the variables; into the file ``out``, for `apply` and `show_json`."""
        options = ("-input=false", f"-out={out}", *_given(variables), *arguments)
        return self.run("plan", *options, expect=expect)

    def apply(self, *arguments, expect=0, **variables):
        options = ("-input=false", "-auto-approve", *_given(variables), *arguments)
        return self.run("apply", *options, expect=expect)

    def destroy(self, *arguments, expect=0, **variables):
        options = ("-input=false", "-auto-approve", *_given(variables), *arguments)
        return self.run("destroy", *options, expect=expect)

    def test(self, *arguments, expect=0):
        return self.run("test", *arguments, expect=expect)

    def output(self):
        """The outputs by name, the sensitive ones too."""
        found = json.loads(self.run("output", "-json").out)
        return {name: output["value"] for name, output in found.items()}

    def state(self):
        """The state as Terraform keeps it; None where nothing was applied."""
        return json.loads(self.run("state", "pull").out or "null")

    def show_json(self, plan="plan"):
        return json.loads(self.run("show", "-json", plan).out)

    def written(self):
        """What the runs left on the disk, as ``(name, bytes)``; of a plan, each of its members."""
        for path in sorted(self.folder.rglob("*")):
            below = path.relative_to(self.folder).parts
            if path.is_file() and not (".terraform" in below and NOT_WRITTEN_BY_A_RUN & {*below}):
                yield "/".join(below), path.read_bytes()
                if zipfile.is_zipfile(path):
                    yield from _members(path)

    def run(self, verb, *arguments, expect=0):
        """Any verb. In a session of its own, so that no plug-in of its outlives it."""
        command = [binary(), verb, *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        ran = Ran(*self._ended(process))
        told = f"{' '.join(command)}: {ran.code}\n{ran.out}{ran.err}"
        assert expect in (None, ran.code), told
        return ran

    def _ended(self, process):
        try:
            out, err = process.communicate(timeout=self.patience)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                pytest.fail(f"terraform did not end in {self.patience} s:\n{out}{err}")
            raise
        return process.returncode, out, err


def _given(variables):
    """A string as it is; anything else as JSON, which Terraform reads as an expression."""
    for name, value in variables.items():
        yield f"-var={name}={value if isinstance(value, str) else json.dumps(value)}"


def _members(path):
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield f"{path.name}/{name}", archive.read(name)


@pytest.fixture
def terraform(tmp_path):
    """A function that copies a tree of the project and gives Terraform in a folder of the copy.

    ``terraform("terraform/modules/aws", inside="examples/minimal", environment={…})``
    """
    binary()

    def copied(tree, *, inside=".", environment=None, patience=PATIENCE):
        copy = tmp_path / "terraform" / Path(tree).name
        shutil.copytree(ROOT / tree, copy, ignore=LEFT_BEHIND, dirs_exist_ok=True)
        return Terraform(copy / inside, environment, patience=patience)

    return copied


def written_out(folder, text, name="main.tf"):
    """The folder, with one more file in it: for a configuration that a test writes itself."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / name).write_text(text, encoding="utf-8")
    return Path(folder)
