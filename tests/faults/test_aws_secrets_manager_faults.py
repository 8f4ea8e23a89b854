"""``awssecretsmanager:`` in trouble: the table of docs/faults.md, on the strict double."""

import sys

import pytest

from cmzon_secrets import errors
from cmzon_secrets.clouds.aws import Place
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import bootstrap, new_token
from faults.backend_faults import BackendFaults
from servers.aws_environment import ACCESS_KEY, client
from servers.child_process import free_port

NAME = "prod/cmzon"


def store(timeout=10.0, **options):
    return AWSSecretsManager(NAME, Place(**options), timeout=timeout)


class TestAWSSecretsManagerFaults(BackendFaults):
    scheme = "awssecretsmanager"

    @pytest.fixture
    def double(self, strict_aws):
        """The secret holds a token."""
        self.bare = client("secretsmanager", strict_aws.url)
        self.bare.create_secret(Name=NAME, SecretString="cmz_a_token")
        self.secret = strict_aws.secrets[NAME]
        return strict_aws

    @pytest.fixture
    def not_found(self, strict_aws):
        return store(), f"cmzon-secrets put --create awssecretsmanager://{NAME}"

    @pytest.fixture
    def denied(self, double):
        double.denied = {"GetSecretValue"}
        return store(), "not authorized to perform: secretsmanager:GetSecretValue"

    @pytest.fixture
    def throttled(self, double):
        store().get()
        double.fail("ThrottlingException", "Rate exceeded")
        return store(timeout=1.5), "throttles"

    @pytest.fixture
    def unreachable(self, double):
        return store(endpoint_url=f"http://127.0.0.1:{free_port()}"), "network"

    @pytest.fixture
    def slow(self, double):
        store().get()
        double.latency = 3.0
        yield store(timeout=0.3), "no answer within"
        double.latency = 0.0

    @pytest.fixture
    def deleted_but_recoverable(self, double):
        self.bare.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
        return store(), f"aws secretsmanager restore-secret --secret-id {NAME}"

    @pytest.fixture
    def disabled(self, double):
        self.secret.kms_key = "disabled"
        return store(), "disabled"

    @pytest.fixture
    def malformed_value(self, double):
        self.bare.put_secret_value(SecretId=NAME, SecretString='{"token": "cmz_a_tok')
        return store(), "begins like JSON"

    @pytest.fixture
    def foreign_value(self, double):
        self.bare.put_secret_value(SecretId=NAME, SecretString='{"username": "admin"}')
        return store(), 'no top-level string "token"'

    @pytest.fixture
    def expired_credentials(self, double):
        double.expired = {ACCESS_KEY}
        return store(), "AWS_SESSION_TOKEN"

    @pytest.fixture
    def no_credentials(self, double, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        return store(), "aws sso login"

    @pytest.fixture
    def sdk_missing(self, double, monkeypatch):
        for name in [name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "botocore", None)
        return store(), 'pip install "cmzon-secrets[aws]"'

    def test_a_binary_value_is_invalid_and_not_shown(self, double):
        self.bare.put_secret_value(SecretId=NAME, SecretBinary=b"cmz_binary_token_value_1")
        error = failure_of(store().get)
        assert isinstance(error, errors.InvalidToken)
        assert "binary" in error.message
        must_hide(shown(error), "cmz_binary_token_value_1")

    @pytest.mark.parametrize(
        "text", ['{"token": "%s"', '{"tok": "%s"}', '{"token": ["%s"]}', "%s "]
    )
    def test_a_value_that_is_no_token_is_named_by_its_version_and_not_shown(self, text, double):
        secret = new_token().reveal()
        put = self.bare.put_secret_value(SecretId=NAME, SecretString=text % secret)
        for read in (store().get, store().versions):
            error = failure_of(read)
            assert isinstance(error, errors.InvalidToken)
            assert f"awssecretsmanager://{NAME}" in error.message
            assert put["VersionId"] in error.message
            must_hide(shown(error), secret)

    def test_json_that_never_ends_is_invalid(self, double):
        self.bare.put_secret_value(SecretId=NAME, SecretString='{"a":' * 10_000)
        assert isinstance(failure_of(store().get), errors.InvalidToken)

    def test_a_key_that_may_not_be_used_is_denied_by_name(self, double):
        self.secret.kms_key = "denied"
        with pytest.raises(errors.AccessDenied, match="Access to KMS is not allowed"):
            store().get()

    def test_a_key_that_is_disabled_stops_writers_too(self, double):
        handle = store()
        self.secret.kms_key = "disabled"
        with pytest.raises(errors.AccessDenied, match="disabled"):
            handle.stage(new_token())

    def test_throttling_that_ends_is_not_seen(self, double):
        double.fail("ThrottlingException", times=2)
        assert store().get().reveal() == "cmz_a_token"

    def test_an_answer_that_was_lost_is_asked_for_again(self, double):
        """PutSecretValue was carried out, and its answer was an error: the repeat finds it done."""
        handle, token = store(), new_token()
        original = double._put_secret_value
        lost = []

        def put(request):
            answer = original(request)
            if not lost:
                lost.append(answer)
                double.fail("InternalServiceError", status=500, times=1)
                raise double.failure
            return answer

        double._put_secret_value = put
        try:
            handle.stage(token)
        finally:
            del double._put_secret_value
        assert lost
        assert handle.versions().pending == token

    def test_a_quota_that_is_used_up_is_unavailable_and_changes_nothing(self, double):
        handle, before = store(), store().versions()
        double.max_versions = 1
        with pytest.raises(errors.ProviderUnavailable, match="quota"):
            handle.stage(new_token())
        assert handle.versions() == before

    def test_a_token_larger_than_the_service_takes_is_refused_before_a_call(self, double):
        handle = store()
        double.calls.clear()
        huge = new_token(scopes=[f"scope:{n:05}" for n in range(8000)])
        with pytest.raises(errors.InvalidToken, match="AWS takes 65536"):
            handle.stage(huge)
        assert double.calls == []

    def test_a_deleted_secret_is_not_an_empty_one(self, double):
        """An empty view would have a rotator issue a token that it cannot store."""
        self.bare.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
        handle = store()
        for verb in (
            handle.versions,
            handle.create,
            lambda: handle.identity,
            lambda: handle.stage(new_token()),
            lambda: handle.discard("tok_any"),
        ):
            with pytest.raises(errors.TokenNotFound) as caught:
                verb()
            assert "restore-secret" in caught.value.hint

    def test_a_replica_is_read_and_never_written(self, double):
        handle = store()
        self.secret.primary_region = "eu-west-1"
        assert handle.get().reveal() == "cmz_a_token"
        for verb in (
            lambda: handle.stage(new_token()),
            lambda: handle.promote("tok_any", replacing=None),
        ):
            with pytest.raises(errors.ReadOnlyProvider, match="eu-west-1"):
                verb()

    def test_a_caller_without_the_right_to_tag_rotates_all_the_same(self, double):
        double.denied = {"TagResource"}
        handle, second = store(), new_token()
        first = handle.get()
        handle.stage(second)
        handle.promote(second.id, replacing=first.id)
        view = handle.versions()
        assert (view.current, view.previous) == (second, first)
        assert view.promoted_at.timestamp() == pytest.approx(self.secret.changed, abs=0.001)

    def test_a_missing_secret_is_told_to_whoever_writes(self, strict_aws):
        handle = store()
        assert list(handle.versions()) == []
        handle.discard("tok_any")
        for verb in (
            lambda: handle.stage(new_token()),
            lambda: handle.promote("tok_any", replacing=None),
            lambda: handle.identity,
        ):
            with pytest.raises(errors.TokenNotFound) as caught:
                verb()
            assert f"cmzon-secrets put --create awssecretsmanager://{NAME}" in caught.value.hint
        handle.create()
        handle.create()
        assert bootstrap(handle) == handle.get()
