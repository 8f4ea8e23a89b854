"""What is peculiar to Requests: hooks, history, files as bodies, and its environment."""

from __future__ import annotations

import pytest

from cmzon_secrets import Token
from unit.client.conftest import ACCEPTED, REFUSED

requests = pytest.importorskip("requests", reason="not run: requests (not installed)")
from cmzon_secrets.integrations.requests_auth import TokenAuth  # noqa: E402  # it needs requests

FIRST, SECOND = Token("cmz_first_value", id="tok_1"), Token("cmz_second_value", id="tok_2")


@pytest.fixture
def session(vault, server):
    with requests.Session() as session:
        session.auth = TokenAuth(vault, base_url=server.url)
        yield session


@pytest.fixture
def replaced(server, vault):
    """The first token dies as it is used, and the vault has the second."""

    def turn(request):
        vault.token = SECOND
        return REFUSED if request.token == FIRST.reveal() else ACCEPTED

    server.answer = turn


def test_netrc_does_not_replace_the_token(session, server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(server.url) == ("somebody", "else")
    session.get(server.url)
    assert server.received[0].token == FIRST.reveal()


def test_a_file_is_sent_again_from_where_it_began(session, server, replaced, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"left out|sent twice")
    with path.open("rb") as body:
        body.seek(9)
        assert session.post(server.url, data=body).status_code == 200
    assert [request.body for request in server.received] == [b"sent twice"] * 2


def test_an_upload_is_sent_again_whole(session, server, replaced):
    files = {"media": ("picture.png", b"PNG" * 1000)}
    assert session.post(server.url, files=files).status_code == 200
    first, second = server.received
    assert first.body == second.body
    assert b"PNG" in first.body


def test_hooks_of_the_program_see_the_last_answer_only(session, server, replaced):
    seen = []
    session.hooks["response"] = [lambda answer, **_: seen.append(answer.status_code)]
    session.get(server.url)
    assert seen == [200]


def test_the_refused_request_stands_in_the_history_as_it_was(session, server, replaced):
    answer = session.get(server.url)
    (refused,) = answer.history
    assert refused.json()["error"]["code"] == 401
    assert refused.request.headers["Authorization"] == f"Bearer {FIRST.reveal()}"
    assert answer.request.headers["Authorization"] == f"Bearer {SECOND.reveal()}"


def test_a_streamed_answer_is_tried_again_as_well(session, server, replaced):
    with session.get(server.url, stream=True) as answer:
        assert answer.status_code == 200
        assert b"accepted" in b"".join(answer.iter_content())


def test_a_refusal_that_stays_can_still_be_read_as_a_stream(session, server):
    server.dead.add(FIRST.reveal())
    with session.get(server.url, stream=True) as answer:
        assert b"Invalid API token" in b"".join(answer.iter_content())


def test_a_request_that_was_prepared_long_ago_gets_the_new_token(session, server, vault):
    prepared = session.prepare_request(requests.Request("GET", server.url))
    server.dead.add(FIRST.reveal())
    vault.token = SECOND
    assert session.send(prepared).status_code == 200


def test_printed_headers_are_masked(session, server):
    answer = session.get(server.url)
    assert server.received[0].token == FIRST.reveal()
    assert FIRST.reveal() not in f"{answer.request.headers} {vars(answer.request)}"
