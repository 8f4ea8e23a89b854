"""``awskms:`` in trouble: the table of docs/faults.md, on the strict double of KMS."""

import base64
import os
import socket
import sys

import pytest

from cmzon_secrets import errors
from cmzon_secrets.providers.aws_kms import AWSKMSCiphertext
from cmzon_secrets.uri import parse
from faults.backend_faults import BackendFaults
from servers.aws_environment import client

VARIABLE = "CMZON_TEST_CIPHERTEXT"


class TestAWSKMSFaults(BackendFaults):
    scheme = "awskms"

    @pytest.fixture
    def arn(self, strict_kms, monkeypatch):
        """A key, and in the variable a token that it encrypted."""
        self.kms, self.setenv = strict_kms, monkeypatch.setenv
        arn = strict_kms.new_key()
        self.store(arn, b"cmz_a_token")
        return arn

    def store(self, arn, plaintext):
        kms = client("kms", self.kms.url)
        blob = kms.encrypt(KeyId=arn, Plaintext=plaintext)["CiphertextBlob"]
        self.setenv(VARIABLE, base64.b64encode(blob).decode())

    def open(self, arn, more="", timeout=10.0):
        uri = f"awskms://{arn}?ciphertext=env:{VARIABLE}{more}"
        return AWSKMSCiphertext(parse(uri, schemes=["awskms"]), timeout=timeout)

    @pytest.fixture
    def not_found(self, arn, monkeypatch):
        monkeypatch.delenv(VARIABLE)
        return self.open(arn), "no ciphertext"

    @pytest.fixture
    def denied(self, arn):
        self.kms.deny(arn)
        return self.open(arn), "kms:Decrypt"

    @pytest.fixture
    def throttled(self, arn):
        self.open(arn).get()  # to open a session takes longer than the deadline below
        self.kms.fail("ThrottlingException", "You have exceeded the rate")
        return self.open(arn, timeout=0.5), "throttles"

    @pytest.fixture
    def unreachable(self, arn):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        return self.open(arn, f"&endpoint_url=http://127.0.0.1:{port}"), "network"

    @pytest.fixture
    def slow(self, arn):
        self.open(arn).get()
        self.kms.latency = 3.0
        return self.open(arn, timeout=0.3), "no answer within"

    @pytest.fixture
    def deleted_but_recoverable(self, arn):
        self.kms.set_state(arn, "PendingDeletion")
        return self.open(arn), "cancel-key-deletion"

    @pytest.fixture
    def disabled(self, arn):
        self.kms.set_state(arn, "Disabled")
        return self.open(arn), "disabled"

    @pytest.fixture
    def malformed_value(self, arn):
        blob = base64.b64decode(os.environ[VARIABLE])
        self.setenv(VARIABLE, base64.b64encode(blob[:-1] + b"x").decode())
        return self.open(arn), "altered"

    @pytest.fixture
    def foreign_value(self, arn):
        self.store(arn, b'{"username": "somebody"}')
        return self.open(arn), 'no top-level string "token"'

    @pytest.fixture
    def expired_credentials(self, arn):
        self.kms.fail(
            "ExpiredTokenException", "The security token included in the request is expired"
        )
        return self.open(arn), "AWS_SESSION_TOKEN"

    @pytest.fixture
    def no_credentials(self, arn, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        return self.open(arn), "aws sso login"

    @pytest.fixture
    def sdk_missing(self, arn, monkeypatch):
        for name in [name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "botocore", None)
        return self.open(arn), 'pip install "cmzon-secrets[aws]"'

    def test_throttling_that_ends_is_not_seen(self, arn):
        self.kms.fail("ThrottlingException", times=2)
        assert self.open(arn).get().reveal() == "cmz_a_token"

    def test_a_service_that_fails_twice_is_asked_a_third_time(self, arn):
        self.kms.fail("KMSInternalException", status=500, times=2)
        assert self.open(arn).get().reveal() == "cmz_a_token"

    def test_a_disabled_key_is_not_told_as_a_missing_right(self, disabled):
        provider, _ = disabled
        with pytest.raises(errors.AccessDenied) as caught:
            provider.get()
        assert "policy" not in f"{caught.value.message} {caught.value.hint}"

    def test_another_encryption_context_is_seal_broken(self, arn):
        with pytest.raises(errors.SealBroken, match="context"):
            self.open(arn, "&context.service=billing").get()

    def test_another_key_is_seal_broken_even_an_attackers_own(self, arn):
        with pytest.raises(errors.SealBroken, match="another key"):
            self.open(self.kms.new_key()).get()

    def test_a_key_that_does_not_exist_is_a_configuration_error(self, arn):
        with pytest.raises(errors.ConfigurationError, match="no such KMS key in eu-central-1"):
            self.open("alias/nobody").get()

    def test_what_is_no_base64_is_never_sent(self, arn):
        self.setenv(VARIABLE, "cmz-a-token-pasted-in-clear!")
        self.kms.calls.clear()
        with pytest.raises(errors.SealBroken, match="not the base64") as caught:
            self.open(arn).get()
        assert self.kms.calls == []
        assert "pasted" not in str(caught.value)
