"""examples/requests-and-httpx, urllib3 and aiohttp: each sends as it stands there, through a rotation."""

import asyncio
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = {
    "requests-and-httpx/with_requests.py": "requests",
    "requests-and-httpx/with_httpx.py": "httpx2",
    "requests-and-httpx/from_the_vendors_page.py": "requests",
    "urllib3/sending.py": "urllib3",
    "aiohttp/sending.py": "aiohttp",
}
TO, TEXT = "+1234567890", "Hello from CMzon!"


@pytest.fixture
def example(examples, in_its_environment):
    """Loads one of them, for as long as the environment is an account's."""

    def load(name):
        pytest.importorskip(LIBRARIES[name], reason=f"not run: {LIBRARIES[name]} (not installed)")
        return runpy.run_path(str(examples / name))

    return load


def through_a_rotation(account, send):
    """What was sent with the first token, and then with that one dead."""
    before = send()
    account.replace()
    proofs_of_death = account.refused
    after = send()
    assert account.messages == 2
    assert account.refused == proofs_of_death + 1
    return before, after


def test_requests(example, in_its_environment):
    module = example("requests-and-httpx/with_requests.py")
    answers = through_a_rotation(in_its_environment, lambda: module["send_message"](TO, TEXT))
    assert [answer.status_code for answer in answers] == [200, 200]
    module["session"].close()


def test_httpx(example, in_its_environment):
    module = example("requests-and-httpx/with_httpx.py")

    async def main():
        async with module["client"]:
            before = await module["send_message"](TO, TEXT)
            await asyncio.to_thread(in_its_environment.replace)
            return before, await module["send_message"](TO, TEXT)

    assert [answer.status_code for answer in asyncio.run(main())] == [200, 200]


def test_the_vendors_page(example, in_its_environment):
    api = example("requests-and-httpx/from_the_vendors_page.py")["api"]
    answers = through_a_rotation(in_its_environment, lambda: api.send_message(TO, TEXT))
    assert [answer["status"] for answer in answers] == ["accepted", "accepted"]
    api.close()


def test_urllib3(example, in_its_environment):
    module = example("urllib3/sending.py")
    answers = through_a_rotation(in_its_environment, lambda: module["send_message"](TO, TEXT))
    assert [answer.status for answer in answers] == [200, 200]
    module["http"].clear()


def test_aiohttp(example, in_its_environment):
    module = example("aiohttp/sending.py")
    aiohttp = pytest.importorskip("aiohttp", reason="not run: aiohttp (not installed)")

    async def main():
        async with aiohttp.ClientSession() as session:
            before = await module["send_message"](session, TO, TEXT)
            await asyncio.to_thread(in_its_environment.replace)
            return before, await module["send_message"](session, TO, TEXT)

    assert [answer["status"] for answer in asyncio.run(main())] == ["accepted", "accepted"]


@pytest.mark.parametrize("name", ["urllib3/sending.py", "aiohttp/sending.py"])
def test_a_recipe_never_sends_a_dead_token_twice(example, in_its_environment, name):
    module = example(name)
    account = in_its_environment
    (current,) = account.store.versions()
    account._issuer.revoke(current.id)
    aiohttp = pytest.importorskip("aiohttp", reason="not run: aiohttp (not installed)")

    async def main():
        async with aiohttp.ClientSession() as session:
            return await module["send_message"](session, TO, TEXT)

    if name.startswith("aiohttp"):
        answer = asyncio.run(main())
    else:
        answer = module["send_message"](TO, TEXT).json()
        module["http"].clear()
    assert answer["error"]["message"] == "Invalid API token"
    assert account.refused == 1


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "aiohttp" not in name])
def test_it_is_a_program_as_well(examples, sending_account, name):
    pytest.importorskip(LIBRARIES[name], reason=f"not run: {LIBRARIES[name]} (not installed)")
    run = subprocess.run(
        [sys.executable, Path(examples / name)],
        env=sending_account.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "accepted" in run.stdout
