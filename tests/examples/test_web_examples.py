"""examples/django, flask and fastapi: each sends as it stands there, through a rotation."""

import json
import sys
import urllib.request
from contextlib import contextmanager
from urllib.error import HTTPError

import pytest

from servers.child_process import free_port, running
from servers.prefork import preforked

SHIPPED = "/orders/1001/shipped"


@contextmanager
def django(account, examples):
    pytest.importorskip("django", reason="not run: Django (not installed)")
    settings = {"DJANGO_SETTINGS_MODULE": "settings", "DJANGO_SECRET_KEY": "of a test"}
    with prefork_server("shop", "application", examples / "django", account, **settings) as url:
        yield url


@contextmanager
def flask(account, examples):
    pytest.importorskip("flask", reason="not run: Flask (not installed)")
    with prefork_server("app", "app", examples / "flask", account, WEB_CONCURRENCY="2") as url:
        yield url


def prefork_server(module, app, folder, account, **settings):
    path = f"{account.environment['PYTHONPATH']}:{folder}"
    environment = {**account.environment, **settings, "PYTHONPATH": path}
    return preforked(module, app, SHIPPED, folder=folder, environment=environment)


@contextmanager
def fastapi(account, examples, folder):
    pytest.importorskip("fastapi", reason="not run: FastAPI (not installed)")
    port = free_port()
    options = ["--app-dir", str(examples / "fastapi"), "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", "app:app", *options]
    with running(
        command, port=port, folder=folder, healthy="/openapi.json", **account.environment
    ) as url:
        yield url


@pytest.fixture(params=["django", "flask", "fastapi"])
def site(request, sending_account, examples, tmp_path):
    if request.param == "fastapi":
        with fastapi(sending_account, examples, tmp_path) as url:
            yield url
    else:
        with {"django": django, "flask": flask}[request.param](sending_account, examples) as url:
            yield url


def post(url):
    """Status, body and worker of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=20) as got:
            return got.status, json.load(got), got.headers.get("X-Worker")
    except HTTPError as error:
        return error.code, error.read(), None


def test_every_worker_sends_before_and_after_a_rotation(site, sending_account):
    def of_every_worker():
        answers = [post(site + SHIPPED) for _ in range(10)]
        assert {status for status, _, _ in answers} == {202}
        (message,) = {body["message"] for _, body, _ in answers}
        return message, {worker for _, _, worker in answers}

    message, workers = of_every_worker()
    sending_account.replace()
    proofs_of_death = sending_account.refused
    # The same idempotency key: the API takes it for the same message, with whatever token.
    again, workers_then = of_every_worker()
    assert (again, sending_account.messages) == (message, 1)
    # What a worker had kept is refused once, and no request of a customer fails by it.
    assert 1 <= sending_account.refused - proofs_of_death <= len(workers | workers_then)


def test_what_is_not_there_is_not_found(site, sending_account):
    sent = sending_account.messages
    assert post(f"{site}/orders/9/shipped")[0] == 404
    assert sending_account.messages == sent


def test_an_api_that_fails_is_told_without_a_word_of_it(site, sending_account):
    fault = {"route": "POST /v1/messages", "status": 403}
    urllib.request.urlopen(
        f"{sending_account.emulator.base_url}/_emulator/faults", json.dumps(fault).encode()
    ).close()
    status, body, _ = post(site + SHIPPED)
    assert status == 502
    assert b"Insufficient" not in body
