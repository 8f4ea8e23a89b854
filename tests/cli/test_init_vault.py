"""`init --backend vault`, typed from the first command to the last, on a real OpenBao.

Terraform's provider is a double that does to the server what the real one does (`servers.terraform_vault`).
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing.conformance.leaks import must_hide
from servers.openbao import binary as bao
from servers.openbao import unused
from servers.programs import programs
from servers.terraform import ROOT, typed_without_questions
from servers.terraform import binary as terraform_program
from servers.terraform_vault import actors

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(cli, openbao, published_provider, tmp_path_factory):
    """An administrator of the server, with Terraform, our program and the server's on the PATH."""
    terraform_program()
    found = programs(tmp_path_factory.mktemp("programs"), sudo="exit 0")
    (found / "vault").symlink_to(bao())
    (plugins := found / "none").mkdir()
    module = ROOT / "terraform/modules/vault"
    with published_provider("vault", actors(openbao, openbao.root_token), tree=module) as served:
        yield {
            **cli.environment,
            **openbao.environment(openbao.root_token, HOME=str(cli.folder)),
            **served,
            "PATH": f"{found}:{os.environ['PATH']}",
            **typed_without_questions(plugins),
        }


def test_on_a_machine_from_nothing_to_a_token_that_rotates(cli, environment, openbao):
    name, mount = unused("acme"), unused("cmzon")
    words = ["--backend", "vault", "--runs-on", "vm", "--name", name, "--mount", mount]
    done = cli("init", *words, "--address", openbao.address, "--json")
    assert done.code == 0, done.err
    (item,) = json.loads(done.out)["items"]
    root = cli.folder / "terraform/main.tf"
    root.write_text(root.read_text().replace("create_mount = true", "create_mount = false"))

    with Emulator(strict=True) as api:
        commands = [step["command"] for step in item["commands"]]
        given = (f"printf '%s\\n' \"$GIVEN\" | {c}" if " put " in c else c for c in commands)
        script = "\n".join(given)
        typed = subprocess.run(
            ["sh", "-euc", script],
            cwd=cli.folder,
            env={**environment, "CMZON_BASE_URL": api.base_url, "GIVEN": api.admin_token},
            capture_output=True,
            text=True,
            check=False,
        )
        said = typed.stdout + typed.stderr
        assert typed.returncode == 0, said
        assert "0 problems, 0 warnings" in said
        held = openbao.admin("GET", f"{mount}/data/{name}")["data"]["data"]
        secret_id = (cli.folder / "keys/secret-id").read_text()
        states = [path.read_text() for path in cli.folder.rglob("terraform.tfstate*")]
        assert states
        must_hide(said + "".join(states), api.admin_token, held["token"], secret_id.strip())
