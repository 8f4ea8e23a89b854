"""Ministack: AWS with IAM enforced, so that least permissions can be proved.

The key id ``test`` is root whatever its secret; it makes one administrator and is not used again.
Each test's callers are users or roles made with exactly the policy that the test is about.
"""

import json
import secrets

import pytest

from servers.aws_environment import REGION, client, use_aws
from servers.child_process import free_port, running, script

ACCOUNT = "000000000000"


class Ministack:
    """``url``, and ``admin(service)``: the bare SDK as somebody who may do everything."""

    def __init__(self, url):
        self.url = url
        self._admin = ("test", "test")
        self._admin = self.user({"Effect": "Allow", "Action": "*", "Resource": "*"})

    def admin(self, service):
        return client(service, self.url, *self._admin)

    def as_admin(self, monkeypatch):
        """The environment in which the SDK is the administrator."""
        self.as_user(monkeypatch, self._admin)

    def as_user(self, monkeypatch, keys):
        """The environment in which the SDK is the owner of ``keys``."""
        use_aws(monkeypatch, url=self.url, access_key=keys[0], secret_key=keys[1])

    def user(self, *statements, policy=None):
        """Keys of a new user who may do what the policy, or the statements, allow and no more."""
        iam, name = self.admin("iam"), f"user-{secrets.token_hex(6)}"
        iam.create_user(UserName=name)
        document = policy or _document(*statements)
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def allow(self, keys, policy):
        """Let the user of these keys do what the policy allows, and no more."""
        arn = client("sts", self.url, *keys).get_caller_identity()["Arn"]
        name = arn.rpartition("/")[2]
        self.admin("iam").put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)

    def role(self, *statements, policy=None, trusts="*"):
        """The ARN of a new role with this policy, which ``trusts`` may assume."""
        iam, name = self.admin("iam"), f"role-{secrets.token_hex(6)}"
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": trusts}}
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document(trust))
        document = policy or _document(*statements)
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=document)
        return made["Role"]["Arn"]


def _document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory):
    """One server for the whole run; each test makes names of its own."""
    port = free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "MINISTACK_REGION": REGION,
        "SERVICES": "cloudwatch,ec2,events,iam,kms,lambda,logs,scheduler,secretsmanager,sns,sqs,sts",
        "LOG_LEVEL": "WARNING",
    }
    with running(
        [script("ministack")],
        port=port,
        folder=tmp_path_factory.mktemp("ministack"),
        healthy="/_ministack/health",
        **environment,
    ) as url:
        yield Ministack(url)


@pytest.fixture
def ministack(ministack_server, monkeypatch):
    """The server, where the SDK finds it and is its administrator."""
    ministack_server.as_admin(monkeypatch)
    return ministack_server
