"""Who has a port that is taken: told as far as the machine tells, and never a command line."""

import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from ipaddress import ip_address

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.port_owner import (
    Listener,
    conflicting,
    is_emulator,
    listeners,
    owner_of,
)
from cmzon_secrets.errors import ConfigurationError

little_endian = pytest.mark.skipif(
    sys.byteorder != "little", reason="not run: the tables are of a little-endian machine"
)
linux = pytest.mark.skipif(
    not os.path.exists("/proc/net/tcp"), reason="not run: this system has no /proc/net/tcp"
)

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:A1B2 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 99 1 0000000000000000 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 98 1 0000000000000000 100 0 0 10 0
"""


@little_endian
def test_listeners_are_read_from_the_kernels_table_and_connections_are_passed_over():
    assert list(listeners(TCP)) == [
        Listener(ip_address("127.0.0.1"), 8080, 1000, 4711),
        Listener(ip_address("0.0.0.0"), 22, 0, 4713),
    ]


@little_endian
def test_ipv6_listeners_are_read_too():
    assert list(listeners(TCP6)) == [
        Listener(ip_address("::1"), 8080, 104, 99),
        Listener(ip_address("::ffff:127.0.0.1"), 8081, 104, 98),
    ]


@pytest.mark.parametrize(
    "table",
    ["", "\n", "a b c 0A", "0: xyz:1F90 0:0 0A 0 0 0 0 0 1", "0: 01:1F90 0:0 0A 0 0 0 0 0 1"],
)
def test_a_table_that_is_something_else_holds_no_listener(table):
    assert list(listeners(table)) == []


@pytest.mark.parametrize(
    ("listens", "wanted", "in_the_way"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "::1", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_a_listener_is_in_the_way_where_it_has_the_address_or_all_addresses(
    listens, wanted, in_the_way
):
    listener = Listener(ip_address(listens), 8080, 0, 1)
    assert conflicting(listener, wanted, 8080) is in_the_way
    assert not conflicting(listener, wanted, 8081)


def proc_of(folder, *, uid=1000, comm=None):
    """A /proc in which somebody has 127.0.0.1:8080; process 77 if it has a name."""
    (folder / "net").mkdir()
    table = TCP.replace(" 1000 ", f" {uid} ")
    (folder / "net" / "tcp").write_text(table)
    (folder / "1").mkdir()  # a process whose descriptors we may not see
    (folder / "self").mkdir()
    if comm is not None:
        (folder / "77" / "fd").mkdir(parents=True)
        (folder / "77" / "fd" / "0").symlink_to("/dev/null")
        (folder / "77" / "fd" / "3").symlink_to("socket:[4711]")
        (folder / "77" / "comm").write_text(comm)
        (folder / "77" / "cmdline").write_text("serve\0--token=secret")
    return folder


@little_endian
def test_a_process_is_named_without_its_command_line(tmp_path):
    proc = proc_of(tmp_path, comm="python3\n")
    assert owner_of("127.0.0.1", 8080, proc) == "python3 (process 77)"


@little_endian
def test_a_process_cannot_write_to_the_terminal_through_its_name(tmp_path):
    proc = proc_of(tmp_path, comm="\x1b[2J\nx\n")
    assert owner_of("127.0.0.1", 8080, proc) == "?[2J?x (process 77)"


@little_endian
def test_where_the_process_is_hidden_its_user_is_named(tmp_path):
    user = pwd.getpwuid(os.getuid())
    proc = proc_of(tmp_path, uid=user.pw_uid)
    assert owner_of("127.0.0.1", 8080, proc) == f"a process of user {user.pw_name}"


@little_endian
def test_a_user_without_a_name_is_told_by_number(tmp_path):
    proc = proc_of(tmp_path, uid=4_000_000_001)
    assert owner_of("127.0.0.1", 8080, proc) == "a process of user 4000000001"


def test_where_nothing_can_be_known_nobody_is_named(tmp_path):
    assert owner_of("127.0.0.1", 8080, tmp_path) is None


LISTEN = """
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as listener:
    listener.bind((host, port))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@linux
@pytest.mark.parametrize(
    ("listens", "wanted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
def test_the_refusal_names_the_process_that_listens(listens, wanted):
    if ":" in listens and not has_ipv6():
        pytest.skip("not run: this machine has no IPv6 loopback")
    secret = "--token=not-to-be-shown"
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, listens, "0", secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        port = int(process.stdout.readline())
        with pytest.raises(ConfigurationError) as refused:
            Emulator(host=wanted, port=port).start()
        with open(f"/proc/{process.pid}/comm") as comm:
            name = comm.read().strip()
        process.stdin.close()
    told = f"emulator port {port} on {wanted} — in use by {name} (process {process.pid})"
    assert refused.value.message == told
    assert "not-to-be-shown" not in str(refused.value)
    assert "0 takes a free one" in refused.value.hint


def test_an_emulator_that_has_the_port_is_told_and_recommended(emulator):
    port = int(emulator.base_url.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match="in use by a CMzon emulator") as refused:
        Emulator(port=port).start()
    assert refused.value.hint == "use that one, or take a free port with --port 0"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n{}", b"SSH-2.0-x\r\n"])
def test_another_server_is_not_taken_for_an_emulator(answer):
    with Answering(answer) as port:
        assert not is_emulator("127.0.0.1", port)


def test_a_server_that_answers_drop_by_drop_is_not_waited_for():
    begun = time.monotonic()
    with Answering(b"x", again_every=0.02) as port:
        assert not is_emulator("127.0.0.1", port)
        assert time.monotonic() - begun < 2.0


def test_where_nobody_listens_there_is_no_emulator():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not is_emulator("127.0.0.1", port)


class Answering:
    """A server that says the same to everyone; with ``again_every``, again and again."""

    def __init__(self, answer, again_every=None):
        self.answer = answer
        self.again_every = again_every
        self.ended = threading.Event()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self.listener.getsockname()[1]

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(self.answer)
            while self.again_every and not self.ended.wait(self.again_every):
                try:
                    connection.sendall(self.answer)
                except OSError:
                    return

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.listener.close()


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
