"""Starting, stopping, and what is left afterwards: nothing."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator, serve
from cmzon_secrets.emulator.server import listen
from cmzon_secrets.errors import ConfigurationError


def port_of(emulator):
    return int(emulator.base_url.rsplit(":", 1)[1])


def test_it_listens_on_a_free_loopback_port(emulator):
    assert emulator.base_url.startswith("http://127.0.0.1:")
    assert port_of(emulator) > 0
    assert emulator.ca is None


def test_stopping_leaves_no_thread_no_socket_and_no_file(emulator):
    folder = Path(emulator.ready_line.admin_token_file).parent
    port = port_of(emulator)
    emulator.stop()
    assert not any(thread.name == "cmzon-emulator" for thread in threading.enumerate())
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_stopping_is_quick_with_idle_and_half_sent_connections(emulator):
    idle = socket.create_connection(("127.0.0.1", port_of(emulator)))
    half = socket.create_connection(("127.0.0.1", port_of(emulator)))
    half.sendall(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        b"Authorization: Bearer %s\r\n\r\nx" % emulator.admin_token.encode()
    )
    with httpx2.Client(trust_env=False) as kept_alive:
        kept_alive.get(f"{emulator.base_url}/_emulator/stats")
        started = time.monotonic()
        emulator.stop()
        assert time.monotonic() - started < 5
    idle.close()
    half.close()


@pytest.mark.parametrize("path", [b"/v1/messages", b"/_emulator/faults"])
def test_a_client_that_hangs_up_in_the_middle_of_a_request_is_no_error(api, caplog, path):
    with socket.create_connection(("127.0.0.1", port_of(api.emulator))) as half:
        half.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer %s\r\n\r\nx" % (path, api.emulator.admin_token.encode())
        )
    assert api.send().status_code == 200
    api.emulator.stop()
    assert caplog.records == []


def test_a_request_whose_client_hung_up_is_recorded_without_an_answer(api):
    with socket.create_connection(("127.0.0.1", port_of(api.emulator))) as half:
        half.sendall(
            b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer %s\r\n\r\nx" % api.emulator.admin_token.encode()
        )
    while not (
        entries := [e for e in api.call("GET", "/v1/audit").json()["data"] if e["method"] == "POST"]
    ):
        time.sleep(0.01)
    assert (entries[0]["route"], entries[0]["status"]) == ("POST /v1/tokens", None)


def test_it_can_be_stopped_twice_and_started_again(emulator):
    first = emulator.admin_token
    emulator.stop()
    emulator.stop()
    emulator.start()
    assert emulator.admin_token != first
    assert emulator.stats()["messages"] == 0


def test_it_cannot_be_started_twice(emulator):
    with pytest.raises(ConfigurationError, match="already running"):
        emulator.start()
    assert emulator.stats()["messages"] == 0


@pytest.mark.parametrize("name", ["base_url", "ca", "admin_token", "ready_line"])
def test_before_it_runs_it_has_no_address(name):
    with pytest.raises(ConfigurationError, match="not running"):
        getattr(Emulator(), name)


def test_many_can_run_at_once():
    with Emulator() as one, Emulator() as other:
        assert one.base_url != other.base_url
        assert one.admin_token != other.admin_token


def test_a_port_in_use_is_refused_by_number_and_leaves_nothing(emulator):
    threads = threading.active_count()
    with pytest.raises(ConfigurationError) as refused:
        Emulator(port=port_of(emulator)).start()
    assert str(port_of(emulator)) in refused.value.message
    assert "port" in refused.value.hint
    assert threading.active_count() == threads


def test_its_socket_is_one_for_which_the_event_loop_turns_nagles_algorithm_off():
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigurationError, match=str(port)):
        Emulator(port=port).start()


def test_its_port_can_be_used_again_at_once(emulator):
    with httpx2.Client(trust_env=False) as http:
        port = port_of(emulator)
        http.get(f"{emulator.base_url}/_emulator/stats")
        emulator.stop()
        with Emulator(port=port) as again:
            assert http.get(f"{again.base_url}/_emulator/stats").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com", ""])
def test_only_loopback_hosts_are_served(host):
    with pytest.raises(ConfigurationError, match="only loopback") as refused:
        Emulator(host=host)
    assert "127.0.0.1" in refused.value.hint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_every_loopback_host_can_be_served(host):
    if host == "::1" and not has_ipv6():
        pytest.skip("not run: this machine has no IPv6 loopback")
    with Emulator(host=host) as emulator, httpx2.Client(trust_env=False) as http:
        assert http.get(f"{emulator.base_url}/_emulator/stats").status_code == 200


def test_nothing_shows_the_admin_token_unasked(emulator):
    shown = f"{emulator!r} {emulator} {vars(emulator)!r} {emulator._running!r}"
    assert emulator.admin_token not in shown


def test_over_tls_the_given_ca_is_all_a_client_needs(connect):
    with Emulator(tls=True) as emulator:
        assert emulator.base_url.startswith("https://")
        api = connect(emulator, verify=ssl.create_default_context(cafile=emulator.ca))
        port = port_of(emulator)
        assert api.send().status_code == 200
        assert api.http.get(f"https://localhost:{port}/_emulator/stats").status_code == 200


def test_over_tls_a_client_without_the_ca_refuses(connect):
    with Emulator(tls=True) as emulator, pytest.raises(httpx2.ConnectError, match="CERTIFICATE"):
        connect(emulator, verify=ssl.create_default_context()).send()


def test_over_tls_a_reset_is_one_too(connect):
    with Emulator(tls=True) as emulator:
        api = connect(emulator, verify=ssl.create_default_context(cafile=emulator.ca))
        api.fault(reset=True, count=1)
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            api.send()
        assert api.send().status_code == 200


def test_the_ca_stays_the_same_with_the_state(tmp_path, connect):
    with Emulator(tls=True, state=tmp_path) as emulator:
        trusted = ssl.create_default_context(cafile=emulator.ca)
    with Emulator(tls=True, state=tmp_path) as emulator:
        assert connect(emulator, verify=trusted).send().status_code == 200


def test_a_ca_that_cannot_be_read_is_refused_by_name(tmp_path):
    with Emulator(tls=True, state=tmp_path):
        pass
    (tmp_path / "ca.pem").write_text("rubbish")
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        Emulator(tls=True, state=tmp_path).start()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_says_when_it_is_ready_and_ends_with_0_on_a_signal(signal_number):
    process = in_foreground("")
    ready = json.loads(process.stdout.readline())
    assert set(ready) == {"base_url", "dashboard_url", "admin_token_file", "ca"}
    token_file = Path(ready["admin_token_file"])
    assert token_file.stat().st_mode & 0o777 == 0o600
    with httpx2.Client(trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
        answer = http.get(f"{ready['base_url']}/v1/tokens", headers=headers)
        assert answer.status_code == 200
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert not token_file.parent.exists()


def test_in_the_foreground_the_state_stays(tmp_path):
    process = in_foreground(f"state={str(tmp_path)!r}")
    ready = json.loads(process.stdout.readline())
    process.terminate()
    process.communicate(timeout=30)
    assert Path(ready["admin_token_file"]) == tmp_path / "admin-token"
    assert (tmp_path / "admin-token").exists()
    assert not list(tmp_path.glob(".*"))


def test_in_the_foreground_a_failing_ready_line_stops_it():
    def fail(ready):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        serve(fail)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not any(thread.name == "cmzon-emulator" for thread in threading.enumerate())


def test_in_the_foreground_means_the_main_thread():
    raised = []

    def run():
        try:
            serve(print)
        except ConfigurationError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in raised[0].message


def in_foreground(options):
    program = (
        "import json\n"
        "from dataclasses import asdict\n"
        "from cmzon_secrets.emulator import serve\n"
        f"serve(lambda r: print(json.dumps(asdict(r)), flush=True), {options})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("absent", ["starlette", "uvicorn", "trustme"])
def test_without_the_extra_the_error_says_what_to_install(absent):
    program = (
        "import sys\n"
        f"sys.modules[{absent!r}] = None\n"
        "from cmzon_secrets.errors import ConfigurationError\n"
        "try:\n"
        "    from cmzon_secrets.emulator import Emulator\n"
        "    Emulator(tls=True).start()\n"
        "except ConfigurationError as error:\n"
        "    print(error.hint)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"cmzon-secrets[emulator]" in ran.stdout
