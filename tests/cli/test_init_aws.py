"""`init --backend aws`, typed from the first command to the last, on an AWS that enforces its rights."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess

import pytest

from cmzon_secrets.cli.failures import ATTENTION
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing.conformance.leaks import must_hide
from servers.aws_environment import REGION, aws_environment
from servers.programs import programs
from servers.terraform import binary, needs_plugin, plugin_folder, typed_without_questions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def api():
    with Emulator(tls=True) as emulator:
        yield emulator


@pytest.fixture
def environment(cli, ministack, api, tmp_path_factory):
    """Somebody who may administer AWS, with Terraform and our program on the PATH."""
    binary()
    needs_plugin("aws")
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return {
        **cli.environment,
        **aws_environment(ministack.url, *keys.values()),
        "PATH": f"{programs(tmp_path_factory.mktemp('programs'))}:{os.environ['PATH']}",
        "CMZON_BASE_URL": api.base_url,
        **typed_without_questions(plugin_folder()),
    }


@pytest.fixture
def type_in(cli, environment):
    """Runs one printed command, with what is typed when it asks."""

    def type_in(command, answer="", code=0):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=cli.folder,
            env=environment,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        if "lambda_zip" in command and "could not fetch" in said:
            pytest.skip("not run: the zip for AWS Lambda (pip cannot download)")
        assert done.returncode == code, said
        return said

    return type_in


def to_the_emulator(main_tf, api):
    """The root as its owner would change it for another API."""
    text = main_tf.read_text()
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if "lambda_zip" in line) + 1
    lines.insert(at, f'  base_url = "{api.base_url}"\n  environment = {{ CMZON_CA = "ca.pem" }}\n')
    main_tf.write_text("".join(lines))


def test_from_nothing_to_a_token_that_a_function_rotates(cli, type_in, ministack, api):
    account = f"acme{secrets.token_hex(4)}"
    words = ["init", "--backend", "aws", "--name", account, "--region", REGION, "--json"]
    (item,) = json.loads(cli(*words).out)["items"]
    commands = [step["command"] for step in item["commands"]]
    build, fetch, apply, put, invoke, doctor, application = commands
    to_the_emulator(cli.folder / "terraform/main.tf", api)
    shutil.copyfile(api.ca, cli.folder / "ca.pem")

    type_in(f"{build} --add ca.pem")
    type_in(fetch)
    said = type_in(apply)
    said += type_in(put, f"{api.admin_token}\n")
    name = shlex.split(invoke)[shlex.split(invoke).index("--function-name") + 1]
    answer = ministack.admin("lambda").invoke(FunctionName=name, Payload="{}")
    told = json.loads(answer["Payload"].read())
    assert [a["kind"] for a in told["items"][0]["actions"]] == ["issue", "stage", "promote"]
    examined = type_in(f"{doctor} --ca ca.pem", code=ATTENTION)
    assert "ok       api.token: the API takes the token" in examined
    assert "0 problems" in examined
    assert set(re.findall("warning  (.*?):", examined)) == {"permissions.excess"}  # the admin's own

    given = type_in(application)
    assert (
        f":secret:cmzon/{account}-" in re.search("^CMZON_TOKEN_URI=(.*)$", given, re.MULTILINE)[1]
    )
    assert f":policy/cmzon-{account}-reader" in given

    stored = ministack.admin("secretsmanager").get_secret_value(SecretId=f"cmzon/{account}")
    token = json.loads(stored["SecretString"])["token"]
    must_hide(said + examined, api.admin_token, token)
    for path in cli.folder.glob("terraform/terraform.tfstate*"):
        must_hide(path.read_text(), api.admin_token, token)
