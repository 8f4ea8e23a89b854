"""What the function in AWS Lambda costs: its zip, a cold start, a step of a rotation.

AWS's own runtime client runs it in an environment that holds nothing else, against the Runtime API, moto's
server and the emulator, all on this machine; in Lambda a processor is slower and the network longer. Beside
it, in turn with it, runs a bare handler: botocore out of the same zip, and the two calls that any look at
a secret takes. The figures are medians.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from backends import moto

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.provisioning import lambda_zip

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

STARTS, ROTATIONS = 5, 8
MOST_SECONDS_COLD, MOST_SECONDS_WARM, MOST_MEGABYTES = 1.5, 0.2, 20
HANDLER = "cmzon_secrets.runtimes.aws_lambda.handler"
STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
BARE = """
import os
import botocore.session

client = None

def handler(event, context):
    global client
    if client is None:
        client = botocore.session.get_session().create_client("secretsmanager")
    client.describe_secret(SecretId=os.environ["SECRET"])
    return client.get_secret_value(SecretId=os.environ["SECRET"])["VersionId"]
"""

Invoke = Callable[[object], Any]


def built(folder: Path) -> Path:
    output = folder / "ours.zip"
    command = [sys.executable, "-m", lambda_zip.__name__, "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output


def bare_zip(ours: Path) -> Path:
    """The packages of others in our zip, and ``BARE``."""
    output = ours.with_name("bare.zip")
    with zipfile.ZipFile(ours) as source, zipfile.ZipFile(output, "w") as target:
        for name in source.namelist():
            if not name.startswith("cmzon_secrets/"):
                target.writestr(name, source.read(name))
        target.writestr("bare.py", BARE)
    return output


@contextmanager
def running(archive: Path, handler: str, environment: Mapping[str, str]) -> Iterator[Invoke]:
    """The function, from the start of its process; an error of its own ends the measuring."""
    from servers.lambda_runtime import deployed

    with (
        tempfile.TemporaryDirectory() as folder,
        deployed(archive, handler, folder=Path(folder), environment=environment) as function,
    ):

        def invoke(event: object) -> Any:
            answer, error = function.invoke(event)
            if error is not None:
                raise SystemExit(f"the function failed: {error}\n{function.log}")
            return answer

        yield invoke


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def cold(archive: Path, handler: str, environment: Mapping[str, str]) -> float:
    """Seconds from the start of the process to the first answer."""
    with running(archive, handler, environment) as invoke:
        return timed(lambda: invoke({}))


def warm(
    archive: Path, handler: str, environment: Mapping[str, str], events: list[object]
) -> list[float]:
    """Seconds of each event but the first few, which open connections."""
    with running(archive, handler, environment) as invoke:
        seconds = [timed(lambda event=event: invoke(event)) for event in events]  # type: ignore[misc]
        return seconds[len(STEPS) :]


def rotations(client: Any) -> list[object]:
    """The steps of rotations, each of a secret of its own."""
    events: list[object] = []
    for _ in range(ROTATIONS):
        arn = client.create_secret(Name=f"acme-{secrets.token_hex(4)}")["ARN"]
        step = {"SecretId": arn, "ClientRequestToken": str(uuid.uuid4())}
        events += [{**step, "Step": name} for name in STEPS]
    return events


@contextmanager
def world(folder: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """AWS, the API, and what a function is told of both."""
    from servers.aws_environment import client

    with moto(folder) as url, Emulator() as api:
        aws = client("secretsmanager", url)
        aws.create_secret(Name="acme")
        aws.create_secret(Name="admin", SecretString=api.admin_token)
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL")
        yield (
            aws,
            {
                **{name: os.environ[name] for name in names},
                "AWS_DEFAULT_REGION": os.environ["AWS_REGION"],
                "SECRET": "acme",
                "CMZON_TOKEN_URI": "awssecretsmanager://acme",
                "CMZON_ADMIN_URI": "awssecretsmanager://admin",
                "CMZON_BASE_URL": api.base_url,
                "CMZON_ROTATION_NAME": "acme",
            },
        )


def verdict(value: float, most: float) -> str:
    return f"at most {most:g}   {'met' if value <= most else 'MISSED'}"


def main() -> None:
    from _pytest.outcomes import Skipped

    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ours = built(folder)
            bare = bare_zip(ours)
            with world(folder) as (aws, environment):
                measure(aws, environment, ours, bare)
    except (ImportError, Skipped, subprocess.CalledProcessError) as reason:
        print(f"lambda function: not run: {reason}")


def measure(aws: Any, environment: Mapping[str, str], ours: Path, bare: Path) -> None:
    of_bare = (bare, "bare.handler", environment)
    of_ours = (ours, HANDLER, environment)
    cold(*of_ours)  # the first run has a token issued, and the disk's cache filled
    starts = [(cold(*of_ours), cold(*of_bare)) for _ in range(STARTS)]
    our_start, bare_start = (median(column) for column in zip(*starts, strict=True))
    any_secret = {name: v for name, v in environment.items() if name != "CMZON_TOKEN_URI"}
    step = median(warm(ours, HANDLER, any_secret, rotations(aws)))
    bare_step = median(warm(*of_bare, [{}] * (ROTATIONS * len(STEPS))))
    size = ours.stat().st_size / 1e6
    print(f"zip           {size:6.1f} MB   {verdict(size, MOST_MEGABYTES)}")
    print(
        f"cold start    {our_start:6.2f} s    {verdict(our_start, MOST_SECONDS_COLD)}"
        f"   bare botocore {bare_start:5.2f} s    {our_start / bare_start:5.2f} times"
    )
    print(
        f"warm step     {step * 1000:6.1f} ms   {verdict(step * 1000, MOST_SECONDS_WARM * 1000)}"
        f"   bare botocore {bare_step * 1000:5.1f} ms   {step / bare_step:5.2f} times"
    )


if __name__ == "__main__":
    main()
