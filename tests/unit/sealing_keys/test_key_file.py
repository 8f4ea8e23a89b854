"""``keyfile:``: what a key file must be, and how one is made."""

import base64
import os
import stat

import pytest

from cmzon_secrets import open_store
from cmzon_secrets.errors import AccessDenied, ConfigurationError, InvalidURI, ProviderUnavailable
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

DATA_KEY = bytes(32)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "the.key"
    generate_key_file(path)
    return path


def test_keygen_writes_32_bytes_as_one_line_of_base64_for_our_eyes_only(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line, end = path.read_bytes()[:-1], path.read_bytes()[-1:]
    assert (len(base64.b64decode(line, validate=True)), end) == (32, b"\n")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_mode_is_0600_whatever_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        generate_key_file(tmp_path / "new.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600


def test_keygen_never_makes_the_same_key_twice(tmp_path):
    for name in ("a", "b"):
        generate_key_file(tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_keygen_overwrites_nothing(kind, tmp_path):
    target = tmp_path / "there"
    if kind == "file":
        target.write_text("precious")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        generate_key_file(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["there"]
    if kind == "file":
        assert target.read_text() == "precious"


def test_keygen_into_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        generate_key_file(tmp_path / "no" / "new.key")
    assert "mkdir" in caught.value.hint


def test_a_failed_keygen_shows_no_key(tmp_path):
    (tmp_path / "there").touch()
    made = []
    draw = os.urandom

    def noting(count):
        made.append(draw(count))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", noting)
        error = failure_of(lambda: generate_key_file(tmp_path / "there"))
    for drawn in made:
        must_hide(shown(error), base64.b64encode(drawn).decode(), repr(drawn)[2:-1])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o602, 0o700 | 0o001])
def test_a_key_file_open_to_others_is_refused_with_the_remedy(mode, path):
    path.chmod(mode)
    with pytest.raises(AccessDenied, match=f"mode {mode:04o}") as caught:
        KeyFile(path).wrap(DATA_KEY)
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    KeyFile(path).wrap(DATA_KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to root")
def test_a_credential_of_systemd_may_show_the_mask_of_its_acl_as_rights_of_its_group(
    path, tmp_path, monkeypatch
):
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "elsewhere"))
    with pytest.raises(AccessDenied):
        KeyFile(path).wrap(DATA_KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    KeyFile(path).wrap(DATA_KEY)
    path.chmod(0o460)
    with pytest.raises(AccessDenied):
        KeyFile(path).wrap(DATA_KEY)
    path.chmod(0o440)
    os.chown(path, 12345, 0)
    with pytest.raises(AccessDenied):
        KeyFile(path).wrap(DATA_KEY)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_file_for_us_alone_is_accepted(mode, path):
    path.chmod(mode)
    key = KeyFile(path)
    assert key.unwrap(key.wrap(DATA_KEY)) == DATA_KEY


@pytest.mark.skipif(os.geteuid() != 0, reason="not run: another owner (needs root)")
def test_a_key_file_of_another_user_is_refused(path):
    os.chown(path, 12345, -1)
    with pytest.raises(AccessDenied, match="uid 12345"):
        KeyFile(path).wrap(DATA_KEY)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_what_is_no_regular_file_is_refused_without_waiting(kind, tmp_path):
    path = tmp_path / "odd"
    if kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path = "/dev/null"
    with pytest.raises(AccessDenied, match="not a regular file"):
        KeyFile(path).wrap(DATA_KEY)


def test_a_symbolic_link_is_followed_and_its_target_judged(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    KeyFile(link).wrap(DATA_KEY)
    path.chmod(0o644)
    with pytest.raises(AccessDenied):
        KeyFile(link).wrap(DATA_KEY)


def test_a_missing_key_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigurationError, match="no such key file") as caught:
        KeyFile(tmp_path / "no key").wrap(DATA_KEY)
    assert caught.value.hint == f"make one with: cmzon-secrets keygen '{tmp_path}/no key'"


KEY = base64.b64encode(b"k" * 32).decode()
NOT_KEYS = {
    "empty": "",
    "blank": "\n",
    "31 bytes": base64.b64encode(b"k" * 31).decode(),
    "33 bytes": base64.b64encode(b"k" * 33).decode(),
    "no padding": KEY.rstrip("="),
    "two lines": KEY + "\n\n",
    "a space before": " " + KEY,
    "hexadecimal": (b"k" * 32).hex(),
    "raw bytes": "k" * 32,
    "not ASCII": "é" * 44,
    "another spelling": KEY[:-2] + chr(ord(KEY[-2]) + 1) + "=",
    "an endless file": KEY * 1000,
}


@pytest.mark.parametrize("content", NOT_KEYS.values(), ids=NOT_KEYS)
def test_a_file_that_is_no_key_is_refused_and_not_shown(content, path):
    path.write_text(content)
    key = KeyFile(path)
    error = failure_of(key.read_key)
    assert isinstance(error, ConfigurationError)
    assert "32 bytes as one line of base64" in error.message
    if len(content) > 24:
        must_hide(shown(error), content)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_break_at_the_end_is_allowed(end, path):
    path.write_bytes((KEY + end).encode())
    KeyFile(path).wrap(DATA_KEY)


def test_the_key_is_read_at_each_use(path):
    key = KeyFile(path)
    key.wrap(DATA_KEY)
    path.unlink()
    with pytest.raises(ConfigurationError):
        key.wrap(DATA_KEY)


def test_a_relative_path_stays_where_it_was_when_the_folder_changes(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    key = KeyFile(path.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    key.wrap(DATA_KEY)
    assert key.uri == "keyfile:the.key"


def test_too_many_open_files_is_worth_another_try(path):
    import resource

    key, limits = KeyFile(path), resource.getrlimit(resource.RLIMIT_NOFILE)
    key.wrap(DATA_KEY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        error = failure_of(lambda: key.wrap(DATA_KEY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(error, ProviderUnavailable)


def test_a_host_in_the_uri_is_refused():
    with pytest.raises(InvalidURI, match="host"):
        open_key("keyfile://host/path")
    assert open_key("keyfile:///path").uri == "keyfile:/path"


def test_seen_through_a_sealed_file_every_key_error_names_the_option(tmp_path):
    with open_store(f"file:{tmp_path}/t.sealed?key=keyfile:{tmp_path}/no.key") as store:
        error = failure_of(lambda: store.identity)
    assert isinstance(error, ConfigurationError)
    assert error.message.startswith(f"key= of file:{tmp_path}/t.sealed: keyfile:{tmp_path}/no.key")
