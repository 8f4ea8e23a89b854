"""``/openapi.json`` against the emulator: the same routes, and whatever schemathesis makes of it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.tokens import deriving
from cmzon_secrets.emulator.api import make_app
from cmzon_secrets.emulator.emulator import LimitsWish, Listed, Wanted
from cmzon_secrets.emulator.openapi.operations import OPERATIONS
from cmzon_secrets.emulator.responder import Responder
from cmzon_secrets.emulator.storage.journal import Journal

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "emulator.md"
DESCRIBED = ("/v1/", "/_emulator/")
METHODS = ("get", "post", "delete")
VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in HERE.glob("*.json")}


@pytest.fixture(scope="module", params=[True, False], ids=["strict", "lenient"])
def strict(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def emulator(strict: bool) -> Iterator[Emulator]:
    with Emulator(strict=strict, limits=False) as running:
        yield running


@pytest.fixture(scope="module")
def http(emulator: Emulator) -> Iterator[httpx2.Client]:
    admin = {"Authorization": f"Bearer {emulator.admin_token}"}
    with httpx2.Client(base_url=emulator.base_url, trust_env=False, headers=admin) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx2.Client) -> dict[str, Any]:
    return http.get("/openapi.json").raise_for_status().json()


def test_it_is_a_valid_openapi_document(document: dict[str, Any]) -> None:
    import schemathesis

    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()


def test_it_describes_every_route_and_none_that_is_not_there(document: dict[str, Any]) -> None:
    assert {route for route, _ in operations(document)} == routes_served() == set(OPERATIONS)


def test_operations_have_names_of_their_own_and_lead_to_operations_that_exist(
    document: dict[str, Any],
) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    answers = [a for _, o in operations(document) for a in o["responses"].values()]
    led_to = {
        link["operationId"] for answer in answers for link in answer.get("links", {}).values()
    }
    assert {"revokeToken", "expireToken", "endFault"} <= led_to <= set(names)


def test_unknown_fields_are_open_only_where_they_are_ignored(
    document: dict[str, Any], strict: bool
) -> None:
    bodies = {route: body_schema(document, o) for route, o in operations(document)}
    taken = {route: schema for route, schema in bodies.items() if schema is not None}
    assert {"POST /v1/messages", "POST /_emulator/faults"} <= set(taken)
    for route, schema in taken.items():
        ignored = route.startswith("POST /v1/") and not strict
        assert schema["additionalProperties"] is ignored, route


def test_every_route_refuses_what_the_document_does_not_name_if_it_is_to(
    document: dict[str, Any], strict: bool, http: httpx2.Client
) -> None:
    for route, _ in operations(document):
        method, path = route.split()
        path = path.replace("{id}", "tok_0").replace("{name}", "none").replace("{request_id}", "r")
        answer = http.request(method, path, params={"unheard_of": "1"})
        if strict or path.startswith("/_emulator"):
            assert answer.status_code == 400, route
            assert answer.json()["error"]["details"].startswith("unheard_of — unknown"), route
        else:
            assert "unheard_of" not in answer.text, route


def test_a_control_that_takes_no_fields_refuses_every_field(
    document: dict[str, Any], http: httpx2.Client
) -> None:
    for path in ("/_emulator/reset", "/_emulator/tokens/tok_0/expire"):
        answer = http.post(path, json={"keep": "tokens"})
        assert answer.status_code == 400, path
        assert answer.json()["error"]["details"].startswith("keep — unknown"), path


def test_python_takes_what_the_controls_take(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    listing = document["paths"]["/_emulator/messages"]["get"]["parameters"]
    assert set(Listed.__annotations__) == {parameter["name"] for parameter in listing}
    assert set(Wanted.__annotations__) | {"timeout"} == set(schemas["Awaited"]["properties"])
    assert set(LimitsWish.__annotations__) == set(schemas["LimitsWish"]["properties"])


def test_the_api_needs_the_scope_that_is_stated_and_the_controls_need_no_token(
    document: dict[str, Any],
) -> None:
    needed = {route: operation["security"] for route, operation in operations(document)}
    assert needed["POST /v1/messages"] == [
        {"token": ["messages:send"]},
        {"token": ["whatsapp_business"]},
    ]
    assert needed["DELETE /v1/tokens/{id}"] == [{"token": ["tokens:manage"]}]
    assert needed["GET /v1/tokens/self"] == [{"token": []}]
    assert all(needed[route] == [] for route in needed if "/_emulator/" in route)


def test_the_examples_are_the_vendors_own(document: dict[str, Any]) -> None:
    sent = document["components"]["schemas"]["Message"]["examples"]
    assert sent == [VECTORS["message_accepted"]["request"]["json"]]
    answers = document["paths"]["/v1/messages"]["post"]["responses"]
    for name in ("invalid_token_401", "insufficient_permissions_403", "rate_limit_exceeded_429"):
        response = VECTORS[name]["response"]
        example = answers[str(response["status"])]["content"]["application/json"]["example"]
        assert example == json.loads(response["body"])


def test_only_what_the_vendors_page_shows_is_not_called_assumed(document: dict[str, Any]) -> None:
    shown = {r for r, o in operations(document) if "/v1/" in r and not o.get("x-assumed")}
    assert shown == {"POST /v1/messages"}
    assert all(header["x-assumed"] for header in document["components"]["headers"].values())


def test_no_page_of_another_site_can_read_it(emulator: Emulator) -> None:
    headers = {"Origin": "https://example.com"}
    answer = httpx2.get(f"{emulator.base_url}/openapi.json", headers=headers, trust_env=False)
    assert answer.status_code == 403


def test_an_unknown_route_close_by_is_told_of_it(http: httpx2.Client) -> None:
    answer = http.get("/openapi.yaml")
    assert answer.status_code == 404
    assert "GET /openapi.json" in answer.json()["error"]["details"]


@pytest.mark.slow
@pytest.mark.timeout(330)
@pytest.mark.parametrize(
    ("under", "strict"),
    [("/v1/", True), ("/v1/", False), ("/_emulator/", True)],  # the controls are always strict
    ids=["api-strict", "api-lenient", "controls"],
)
def test_schemathesis_finds_no_answer_that_the_document_does_not_tell(
    under: str, strict: bool, tmp_path: Path
) -> None:
    # Each part against an emulator of its own: a fault that is tried out would spoil the API's answers.
    with Emulator(strict=strict, limits=False) as emulator:
        done = schemathesis_run(emulator, under, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No API operations" not in done.stdout


def schemathesis_run(
    emulator: Emulator, under: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """What the page tells to type, for the part of the routes that are ``under``."""
    (told,) = re.findall(r"^\$ (schemathesis .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert " ^/v1/ " in told
    programs = Path(sys.executable).parent
    given = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "CMZON_BASE_URL": emulator.base_url,
        "CMZON_ADMIN_TOKEN": emulator.admin_token,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder),
        "NO_COLOR": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        ["sh", "-c", told.replace("^/v1/", f"^{under}")],
        cwd=HERE.parents[1],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=300,  # it takes 20 s where nothing else runs
        check=False,
    )


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def routes_served() -> set[str]:
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"))
        routes = [r for r in make_app(account, Responder(account)).routes if isinstance(r, Route)]
    return {
        f"{method} {route.path}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith(DESCRIBED)
    }


def body_schema(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any] | None:
    if "requestBody" not in operation:
        return None
    named = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return document["components"]["schemas"][named.rpartition("/")[2]]
