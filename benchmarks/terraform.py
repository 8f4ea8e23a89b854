"""What it takes to apply the AWS module: a plan, an apply, a plan that finds nothing to do, a destroy.

The smallest use that the module's README shows, on the moto server that the tests have, with the real provider.
Beside it, in the same run, a root of one secret: what Terraform and the provider take for their own start. Most
of an apply is waiting: 25 s for a queue, 12 s for a key, as AWS wants it. Other work on the machine makes a run
longer, never shorter: of plans the best counts, and what changes something is run once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lambda_function import built, verdict

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

PLANS = 3
MOST_SECONDS = {"plan": 10, "apply": 60}
OURS = """
module "cmzon" {{
  source     = "{module}"
  name       = "acme"
  lambda_zip = "{archive}"
  readers    = {{ services = ["ecs-tasks.amazonaws.com"] }}
}}
"""
BARE = """
resource "aws_secretsmanager_secret" "bare" {
  name = "bare"
}
"""
PROVIDER = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {}
"""


@contextmanager
def aws(folder: Path) -> Iterator[str]:
    """The URL of the tests' moto, which forgets nothing that Terraform asks after."""
    from servers.child_process import free_port, running

    port = free_port()
    program = str(TESTS / "servers" / "moto_program.py")
    command = [sys.executable, program, "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port=port, folder=folder, healthy="/moto-api/") as url:
        yield url


def measured(folder: Path, text: str, url: str) -> tuple[dict[str, float], int]:
    """Verb → seconds, and how many resources were made."""
    from servers.aws_environment import aws_environment
    from servers.terraform import Terraform, written_out

    terraform = Terraform(written_out(folder, PROVIDER + text), aws_environment(url), patience=600)
    terraform.init()
    seconds: dict[str, float] = {}

    def timed(name: str, verb: Any, *arguments: str) -> None:
        begun = time.perf_counter()
        verb(*arguments)
        took = time.perf_counter() - begun
        seconds[name] = min(took, seconds.get(name, took))

    for _ in range(PLANS):
        timed("plan", terraform.plan)
    timed("apply", terraform.apply, "plan")
    made = sum(kept["mode"] == "managed" for kept in terraform.state()["resources"])
    for _ in range(PLANS):
        timed("plan again", terraform.plan, "-detailed-exitcode")  # a change would be an error
    timed("destroy", terraform.destroy)
    return seconds, made


def told(ours: Mapping[str, float], bare: Mapping[str, float]) -> Iterator[str]:
    for name, seconds in ours.items():
        judged = verdict(seconds, MOST_SECONDS[name]) if name in MOST_SECONDS else ""
        yield (
            f"{name:<12}{seconds:6.1f} s   {judged:<22}"
            f"one secret {bare[name]:5.1f} s   {seconds / bare[name]:5.2f} times"
        )


def main() -> None:
    from _pytest.outcomes import Failed, Skipped

    try:
        from servers.terraform import ROOT, binary, needs_plugin

        binary()
        needs_plugin("aws")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = OURS.format(module=ROOT / "terraform" / "modules" / "aws", archive=built(folder))
            with aws(folder) as url:
                bare, _ = measured(folder / "bare", BARE, url)
                ours, made = measured(folder / "ours", text, url)
    except (ImportError, Failed, Skipped, subprocess.CalledProcessError) as reason:
        print(f"terraform: not run: {reason}")
    else:
        print(f"{made} resources")
        print("\n".join(told(ours, bare)))


if __name__ == "__main__":
    main()
