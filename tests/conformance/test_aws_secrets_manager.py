"""``awssecretsmanager:`` passes what every store must pass: on moto, ministack and a strict double."""

import secrets
from functools import partial

import pytest

from cmzon_secrets import open_store
from cmzon_secrets.clouds.aws import Calls, Place
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.testing import StoreSuite, interposed
from cmzon_secrets.testing.conformance.store_races import Races
from cmzon_secrets.testing.conformance.store_verbs import Verbs
from servers.aws_environment import ACCESS_KEY, REGION, client
from servers.child_process import free_port


class OnAnyServer:
    """What they have in common. A place is the name of a secret."""

    first_stage_is_current = True
    guards_pending = False
    racers = 3
    race_rounds = 2
    model_examples = 2
    model_steps = 10
    max_crash_points = 2

    @pytest.fixture(autouse=True)
    def server(self):
        raise NotImplementedError

    @pytest.fixture
    def new_place(self):
        def made():
            name = f"suite/{secrets.token_hex(6)}"
            self.bare.create_secret(Name=name)
            return name

        return made

    def open(self, place, clock):
        return AWSSecretsManager(place, clock=clock)

    def opener(self, place):
        return partial(open_store, f"awssecretsmanager://{place}")

    def aliases(self, place):
        arn = self.bare.describe_secret(SecretId=place)["ARN"]
        return [
            AWSSecretsManager(arn),
            AWSSecretsManager(place, Place(region=REGION)),
            open_store(f"awssecretsmanager://{place}", region=REGION),
            open_store(f"awssecretsmanager://{arn}"),
        ]

    def paste(self, place, text):
        self.bare.put_secret_value(SecretId=place, SecretString=text)

    def steps(self, place, step):
        return interposed(step, Calls, "__call__")

    def unreachable(self, place):
        nobody = f"http://127.0.0.1:{free_port()}"
        return AWSSecretsManager(place, Place(endpoint_url=nobody), timeout=0.3)


MOTO_LABELS = "moto lets two versions hold AWSPENDING: see ministack and the strict double"


@pytest.mark.slow
class TestOnMoto(OnAnyServer, StoreSuite):
    cannot = {
        "denied": "moto enforces no permissions",
        "opener": "it is in this process",
    }

    @pytest.fixture(autouse=True)
    def server(self, moto):
        self.bare = client("secretsmanager", None)

    @pytest.mark.skip(MOTO_LABELS)
    def test_of_threads_that_stage_different_tokens_one_wins(self):
        """On the others."""

    @pytest.mark.skip(MOTO_LABELS)
    def test_one_handle_serves_many_threads(self):
        """On the others."""


@pytest.mark.slow
class TestOnMotoServer(OnAnyServer, Verbs, Races):
    """The same moto in a process of its own: what many processes, and a network, add."""

    @pytest.fixture(autouse=True)
    def server(self, moto_server):
        self.bare = client("secretsmanager", moto_server)

    @pytest.mark.skip(MOTO_LABELS)
    def test_of_threads_that_stage_different_tokens_one_wins(self):
        """On the others."""

    @pytest.mark.skip(MOTO_LABELS)
    def test_one_handle_serves_many_threads(self):
        """On the others."""

    @pytest.mark.skip(MOTO_LABELS)
    def test_of_two_processes_that_stage_one_wins_and_both_can_promote_the_winner(self):
        """On the others."""


@pytest.mark.slow
class TestOnMinistack(OnAnyServer, StoreSuite):
    first_stage_is_current = False

    @pytest.fixture(autouse=True)
    def server(self, ministack, tmp_path, monkeypatch):
        self.bare = ministack.admin("secretsmanager")
        self.server = ministack
        self.files, self.monkeypatch = tmp_path, monkeypatch

    def denied(self, place):
        key, secret = self.server.user({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
        credentials = self.files / "credentials"
        credentials.write_text(
            f"[denied]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        )
        self.monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        return AWSSecretsManager(place, Place(profile="denied"))


class TestOnTheStrictDouble(OnAnyServer, StoreSuite):
    """The fastest of the four, and the nearest to the service: most of each."""

    racers = 4
    race_rounds = 4
    model_examples = 12
    model_steps = 12
    max_crash_points = 20

    @pytest.fixture(autouse=True)
    def server(self, strict_aws):
        self.bare = client("secretsmanager", strict_aws.url)
        self.double = strict_aws

    def denied(self, place):
        self.double.denied = {ACCESS_KEY}
        return AWSSecretsManager(place)

    def mend(self, place):
        self.double.denied = set()
