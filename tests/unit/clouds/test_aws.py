"""Sessions, calls and errors of AWS: where to, as whom, within what time, and what nobody sees."""

import base64
import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from moto.sts.models import sts_backends

from cmzon_secrets import errors
from cmzon_secrets.clouds.aws import Place, Refused, Service
from cmzon_secrets.clouds.aws_kms import KeyName, KMSKey
from cmzon_secrets.clouds.aws_sessions import SESSIONS
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.uri import parse
from servers.aws_environment import SECRET_KEY, use_aws

URI = "awskms://alias/tokens"
ROLE = "arn:aws:iam::123456789012:role/reader"
ACCOUNT = "123456789012"
ANYWHERE = Place()
CANARY = "cmz-canary-in-the-message"


def place(options="", path="alias/tokens"):
    return Place.from_location(parse(f"awskms://{path}{options}", schemes=["awskms"]))


def kms_at(place=ANYWHERE, **options):
    return Service("kms", place, uri=URI, **options)


def decrypt(service, blob=b"anything"):
    return service.begin()("decrypt", CiphertextBlob=blob, KeyId="alias/tokens")


@pytest.fixture
def key(strict_kms):
    """A key that exists at the double, as ``alias/tokens``."""
    arn = strict_kms.new_key()
    strict_kms.aliases["alias/tokens"] = arn.rpartition("/")[2]
    return KMSKey(KeyName("alias/tokens", Place(), {}), context={}, uri=URI)


# where to


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("?region=eu%20central", "'region' is no region name"),
        ("?region=EU-CENTRAL-1", "'region' is no region name"),
        ("?role_arn=reader", "'role_arn' is not arn:aws:iam"),
        ("?role_arn=arn:aws:iam::1:role/reader", "'role_arn' is not arn:aws:iam"),
    ],
)
def test_an_option_that_cannot_be_right_is_an_invalid_uri(options, fault):
    with pytest.raises(errors.InvalidURI, match=fault):
        place(options)


def test_an_arn_says_the_region():
    arn = f"arn:aws:kms:us-west-2:{ACCOUNT}:alias/tokens"
    assert place(path=arn).region == "us-west-2"
    assert place("?region=us-west-2", path=arn) == place(path=arn)


def test_a_region_that_contradicts_the_arn_is_an_invalid_uri():
    with pytest.raises(errors.InvalidURI, match="its ARN is in us-west-2"):
        place("?region=eu-central-1", path=f"arn:aws:kms:us-west-2:{ACCOUNT}:alias/tokens")


def test_an_arn_without_its_parts_is_an_invalid_uri():
    with pytest.raises(errors.InvalidURI, match="PARTITION:SERVICE:REGION"):
        place(path="arn:aws:kms:alias/tokens")


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
    ],
)
def test_the_region_comes_from_the_environment_where_the_uri_has_none(
    environment, region, monkeypatch
):
    use_aws(monkeypatch, region=None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert SESSIONS.session(Place()).region == region
    assert SESSIONS.session(Place(region="us-east-1")).region == "us-east-1"


def test_no_region_is_a_configuration_error_that_says_what_to_do(monkeypatch):
    use_aws(monkeypatch, region=None)
    with pytest.raises(errors.ConfigurationError, match="no AWS region") as caught:
        decrypt(kms_at())
    assert caught.value.message.startswith(URI)
    assert "AWS_REGION" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "http://kms.example.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://[2001:db8::1]:80",
    ],
)
def test_plain_http_is_refused_in_a_uri(url):
    with pytest.raises(errors.ConfigurationError, match="plain http"):
        place(f"?endpoint_url={url}")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"])
def test_plain_http_in_the_environment_is_refused_before_anything_is_sent(variable, monkeypatch):
    use_aws(monkeypatch)
    monkeypatch.setenv(variable, "http://kms.example.com")
    with pytest.raises(errors.ConfigurationError, match="plain http"):
        decrypt(kms_at())


def test_plain_http_in_a_profile_is_refused_too(monkeypatch, tmp_path):
    use_aws(monkeypatch)
    config = tmp_path / "config"
    keys = "aws_access_key_id = AKIA\naws_secret_access_key = x\n"
    config.write_text(f"[profile leaky]\nendpoint_url = http://kms.example.com\n{keys}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(errors.ConfigurationError, match="plain http"):
        decrypt(kms_at(Place(profile="leaky")))


def test_plain_http_for_assuming_a_role_is_refused_too(monkeypatch):
    use_aws(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.com")
    with pytest.raises(errors.ConfigurationError, match="AWS sts"):
        decrypt(kms_at(Place(role_arn=ROLE)))


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "kms.example.com", "https://me:secret@kms.example.com"]
)
def test_an_endpoint_that_is_no_https_address_is_refused_unseen(url):
    location = parse("awskms://alias/tokens", schemes=["awskms"])
    location.options["endpoint_url"] = url
    with pytest.raises(errors.ConfigurationError) as caught:
        Place.from_location(location)
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sts_too"),
    [
        ("http://127.0.0.1:4566", True),
        ("https://[::1]:4566/", True),
        ("https://vpce-1.kms.example.com", False),
    ],
)
def test_an_endpoint_on_this_machine_stands_for_all_of_aws_another_for_its_service(
    url, sts_too, monkeypatch
):
    use_aws(monkeypatch)
    session = SESSIONS.session(Place(endpoint_url=url))
    assert session.client("kms").meta.endpoint_url == url
    assert (session.client("sts").meta.endpoint_url == url) is sts_too


def test_what_goes_to_this_machine_goes_through_no_proxy(key, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("AWS_EXECUTION_ENV", "another session, which reads the variable above")
        assert key.decrypt(key.encrypt(b"direct")) == b"direct"


# as whom


def test_a_role_is_assumed_and_assumed_anew_before_it_expires(moto):
    service = kms_at(Place(role_arn=ROLE))
    with time_machine.travel("2026-11-25T12:00:00Z", tick=True) as now:
        began = len(assumed())
        caller = service.whoami()
        assert caller.account == ACCOUNT
        assert caller.arn.endswith("assumed-role/reader/cmzon-secrets")
        service.whoami()
        assert len(assumed()) - began == 1
        now.shift(55 * 60)
        service.whoami()
        assert len(assumed()) - began == 2


def assumed():
    return sts_backends[ACCOUNT]["aws"].assumed_roles


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Place(), "the environment (AWS_ACCESS_KEY_ID)"),
        (Place(profile="p"), "the credentials file (profile p)"),
    ],
)
def test_where_the_credentials_come_from_is_told(option, words, moto, credentials_file):
    credentials_file("AKIAINTHEFILE", "p")
    assert kms_at(option).credential_source() == words


@pytest.fixture
def credentials_file(monkeypatch, tmp_path):
    def write(access_key, profile="default"):
        path = tmp_path / "credentials"
        path.write_text(
            f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    return write


def test_credentials_renewed_in_their_file_are_found_without_an_error(
    key, strict_kms, monkeypatch, credentials_file
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    credentials_file("AKIATHEOLDONE")
    strict_kms.access_keys = {"AKIATHEOLDONE"}
    blob = key.encrypt(b"a token")
    credentials_file("AKIATHENEWONE")
    strict_kms.access_keys = {"AKIATHENEWONE"}
    assert key.decrypt(blob) == b"a token"


def test_dead_credentials_are_looked_for_once_more_not_for_ever(key, strict_kms):
    strict_kms.access_keys = set()
    with pytest.raises(errors.AccessDenied, match="AWS_ACCESS_KEY_ID") as caught:
        key.decrypt(b"anything")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint
    assert len(strict_kms.calls) == 2


@pytest.mark.parametrize(
    ("config", "error", "word"),
    [
        ("[profile p]\nregion = eu-west-1\n", errors.AccessDenied, "aws sso login"),
        (
            "[profile p]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
            "[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://127.0.0.1:9/start\n",
            errors.AccessDenied,
            "aws sso login",
        ),
        ("[profile p]\ncredential_process = false\n", errors.AccessDenied, "by hand"),
        ("[profile other]\n", errors.ConfigurationError, "aws configure list-profiles"),
    ],
    ids=["none", "a login that ended", "a process that fails", "no such profile"],
)
def test_credentials_that_cannot_be_had_are_told_with_their_remedy(
    config, error, word, monkeypatch, tmp_path
):
    use_aws(monkeypatch, access_key=None, secret_key=None)
    path = tmp_path / "config"
    path.write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    with pytest.raises(error) as caught:
        decrypt(kms_at(Place(profile="p")))
    assert caught.value.message.startswith(URI)
    assert word in caught.value.hint


def test_a_wrong_clock_is_told_as_what_it_is(key, strict_kms):
    strict_kms.clock = lambda: time.time() + 3600
    strict_kms.fail(
        "InvalidSignatureException", "Signature expired: 20261125T000000Z is now earlier"
    )
    with pytest.raises(errors.AccessDenied, match=r"clock is 3[56]\d\d s off"):
        key.decrypt(b"anything")
    assert 3590 < key.service.clock_skew < 3610


def test_the_clock_skew_is_known_after_any_answer(key):
    assert key.service.clock_skew is None
    key.encrypt(b"anything")
    assert abs(key.service.clock_skew) < 60


# one client


def test_handles_share_one_client(monkeypatch):
    use_aws(monkeypatch)
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: id(SESSIONS.session(Place()).client("kms")), range(32)))
    assert len(ids) == 1
    assert ids == {id(SESSIONS.session(place()).client("kms"))}
    assert ids != {id(SESSIONS.session(Place(region="eu-west-1")).client("kms"))}


def test_another_environment_is_another_session(monkeypatch):
    use_aws(monkeypatch)
    one = SESSIONS.session(ANYWHERE)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    assert SESSIONS.session(ANYWHERE) is not one
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert SESSIONS.session(ANYWHERE) is one


def test_only_so_many_sessions_are_kept(monkeypatch):
    use_aws(monkeypatch)
    monkeypatch.setattr("cmzon_secrets.clouds.pool.KEPT", 2)
    first = SESSIONS.session(Place(region="eu-west-1"))
    second = SESSIONS.session(Place(region="eu-west-2"))
    assert SESSIONS.session(Place(region="eu-west-1")) is first
    SESSIONS.session(Place(region="eu-west-3"))
    assert SESSIONS.session(Place(region="eu-west-1")) is first
    assert SESSIONS.session(Place(region="eu-west-2")) is not second


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_client_of_its_own(key):
    blob = key.encrypt(b"a token")
    parents = SESSIONS.session(Place())
    with SESSIONS._lock:  # as any other thread of the parent may hold it
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # a deadlock ends
            try:
                fine = key.decrypt(blob) == b"a token"
                os._exit(0 if fine and SESSIONS.session(ANYWHERE) is not parents else 1)
            finally:
                os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert key.decrypt(blob) == b"a token"


# what comes back


def test_a_code_that_the_caller_expects_is_left_to_it(key, strict_kms):
    strict_kms.fail("NotFoundException", "no key")
    with pytest.raises(Refused) as caught:
        key.service.begin()("describe_key", KeyId="x", expecting={"NotFoundException"})
    assert (caught.value.code, caught.value.message) == ("NotFoundException", "no key")
    with pytest.raises(errors.ConfigurationError):
        key.service.begin()("describe_key", KeyId="x", expecting={"DisabledException"})


@pytest.mark.parametrize(
    "code",
    ["ValidationException", "SerializationException", "InvalidSignatureException", "Unheard"],
)
def test_what_aws_quotes_of_a_request_is_not_shown(code, key, strict_kms):
    strict_kms.fail(code, f"Value '{CANARY}' at 'secretString' failed to satisfy constraint")
    error = failure_of(lambda: key.encrypt(CANARY.encode()))
    assert isinstance(error, errors.CMzonSecretsError)
    must_hide(shown(error), CANARY)


@pytest.mark.parametrize(
    "sent", [CANARY, base64.b64encode(CANARY.encode()).decode(), CANARY[5:15], CANARY[-8:]]
)
@pytest.mark.parametrize("code", ["AccessDeniedException", "LimitExceededException", "{sent}"])
def test_what_repeats_the_secret_is_quoted_nowhere(sent, code, key, strict_kms):
    """Known codes, too: a firewall in between may repeat the request."""
    strict_kms.fail(code.format(sent=sent), f"blocked: {sent}")
    error = failure_of(lambda: key.encrypt(CANARY.encode()))
    assert isinstance(error, errors.CMzonSecretsError)
    must_hide(f"{shown(error)} {error.hint}", sent)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_code_that_is_none_is_not_shown(key, strict_kms):
    strict_kms.fail("\x1b]0;title\x07\nA FORGED LINE", "x")
    error = failure_of(lambda: key.encrypt(b"anything"))
    assert error.message == f"{URI} — AWS does not accept the request (an unknown code)"


def test_why_it_was_tried_again_is_told_when_the_time_is_up(key, strict_kms, monkeypatch):
    key.encrypt(b"anything")  # to open a session takes longer than the deadline below
    answers = [lambda: (400, {"__type": "ThrottlingException"}), lambda: time.sleep(3) or (200, {})]
    monkeypatch.setattr(strict_kms, "answer", lambda *_: answers.pop(0)())
    with pytest.raises(
        errors.ProviderUnavailable, match=r"throttles .*; then no answer within 1 s"
    ):
        decrypt(kms_at(timeout=1.0))


@pytest.mark.parametrize(
    ("uri", "operation", "command"),
    [
        (URI, "encrypt", f"--policy rotator {URI}` prints"),
        (URI, "decrypt", f"--policy reader {URI}` prints"),
        (
            f"{URI}?ciphertext=env:X&y=z",
            "decrypt",
            f"--policy reader '{URI}?ciphertext=env:X&y=z'`",
        ),
    ],
)
def test_the_hint_of_a_refusal_names_the_policy_of_the_verb(uri, operation, command, strict_kms):
    strict_kms.fail("AccessDeniedException", "no")
    member = {"encrypt": "Plaintext", "decrypt": "CiphertextBlob"}[operation]
    with pytest.raises(errors.AccessDenied) as caught:
        Service("kms", Place(), uri=uri).begin()(operation, KeyId="x", **{member: b"anything"})
    assert command in caught.value.hint


def test_the_hint_of_a_disabled_key_names_it(key, strict_kms):
    strict_kms.fail("DisabledException", "x")
    with pytest.raises(errors.AccessDenied) as caught:
        key.encrypt(b"anything")
    command = "aws kms enable-key --key-id alias/tokens --region eu-central-1"
    assert caught.value.hint == command


def test_a_profile_of_the_environment_that_has_no_credentials_is_named(monkeypatch, tmp_path):
    use_aws(monkeypatch, access_key=None, secret_key=None)
    (tmp_path / "config").write_text('[profile "my ops"]\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "my ops")
    with pytest.raises(errors.AccessDenied) as caught:
        decrypt(kms_at())
    assert "aws sso login --profile 'my ops'" in caught.value.hint
    assert "export AWS_PROFILE" not in caught.value.hint


def test_region_and_endpoint_of_a_service_are_those_in_use(monkeypatch):
    use_aws(monkeypatch, url="https://kms.example.com")
    assert kms_at().region == "eu-central-1"
    assert kms_at().endpoint == "https://kms.example.com"
    assert kms_at(Place(region="eu-west-1")).region == "eu-west-1"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>a proxy's login page</html>"),
        (200, b'{"Plaintext": 7}'),
        (200, b'{"Plaintext": "\xff"}'),
        (200, b"[" * 100_000),
        (502, b"<html>bad gateway</html>"),
        (503, b""),
        (302, b""),
    ],
    ids=["nothing", "a page", "a number", "no text", "deep", "bad gateway", "unavailable", "moved"],
)
def test_an_answer_that_is_none_is_provider_unavailable(status, body, key, strict_kms):
    strict_kms.raw = (status, body)
    with pytest.raises(errors.ProviderUnavailable):
        key.decrypt(b"anything")


def test_an_answer_that_trickles_ends_with_the_deadline(strict_kms):
    """Each read of the socket is in time; the whole is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()
        threading.Thread(target=trickle, args=(server, done), daemon=True).start()
        slow = Place(endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(errors.ProviderUnavailable, match="no answer within 1 s"):
            decrypt(kms_at(slow, timeout=1.0))
        done.set()


def trickle(server, done):
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not done.wait(0.1):
            connection.sendall(b" ")


# what nobody sees


def test_no_log_holds_a_value_a_key_or_a_session_token(moto, caplog):
    """Every logger at DEBUG, a role assumed."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("boto", "urllib3")):
            logging.getLogger(name).setLevel(logging.NOTSET)
    service = Service("secretsmanager", Place(role_arn=ROLE), uri="awssecretsmanager://x")
    value = "cmz-a-value-that-nobody-logs"
    service.begin()("create_secret", Name="x", SecretString=value)
    assert service.begin()("get_secret_value", SecretId="x")["SecretString"] == value
    credentials = SESSIONS.session(service.place)._core.get_credentials().get_frozen_credentials()
    logged = everything_logged(caplog.records)
    must_hide(logged, value, SECRET_KEY, credentials.secret_key, credentials.token)
    assert "botocore" in logged


def test_what_others_do_with_the_sdk_is_logged_as_ever(moto, caplog):
    decrypting = kms_at()
    failure_of(lambda: decrypt(decrypting))
    caplog.set_level(logging.DEBUG)
    SESSIONS.session(Place()).client("kms").list_keys()
    assert "Making request for OperationModel(name=ListKeys)" in caplog.text


def test_an_sdk_failure_keeps_no_frames_and_stays_the_cause(key, strict_kms):
    strict_kms.fail("AccessDeniedException", "User: x is not authorized to perform: kms:Encrypt")
    error = failure_of(lambda: key.encrypt(CANARY.encode()))
    assert type(error.__cause__).__name__ == "ClientError"
    assert error.__cause__.__traceback__ is None
    must_hide(shown(error), CANARY)
    assert "not authorized to perform: kms:Encrypt" in error.message
