"""Moto, both ways: in this process, where it stands in for the SDK's connections, and as a server."""

import sys
from pathlib import Path

import pytest

from servers.aws_environment import use_aws
from servers.child_process import free_port, running


@pytest.fixture
def moto(monkeypatch):
    """AWS in this process, empty; nothing of it can leave."""
    mock_aws = pytest.importorskip("moto", reason="not run: moto (not installed)").mock_aws
    use_aws(monkeypatch)
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield


@pytest.fixture(scope="session")
def moto_server_url(tmp_path_factory):
    """A server of its own process for the whole run; each test makes names of its own."""
    pytest.importorskip("moto.server", reason="not run: moto_server (not installed)")
    port = free_port()
    program = Path(__file__).with_name("moto_program.py")
    command = [sys.executable, str(program), "-H", "127.0.0.1", "-p", str(port)]
    folder = tmp_path_factory.mktemp("moto")
    with running(command, port=port, folder=folder, healthy="/moto-api/") as url:
        yield url


@pytest.fixture
def moto_server(moto_server_url, monkeypatch):
    """The server's URL, where the SDK finds it, too."""
    use_aws(monkeypatch, url=moto_server_url)
    return moto_server_url
