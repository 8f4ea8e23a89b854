"""What the AWS SDK finds in a test's environment: this test's own, never the user's."""

import functools
import os
import secrets

REGION = "eu-central-1"
ACCESS_KEY, SECRET_KEY = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
"""One pair for the whole run, so that the SDK's sessions, which are dear, are kept between tests."""


def use_aws(monkeypatch, *, url=None, access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION):
    """Forget the user's ``AWS_*`` and files; set the endpoint, the keys and the region given."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_environment(url, access_key, secret_key, region).items():
        if value is not None:
            monkeypatch.setenv(name, value)


def aws_environment(url=None, access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION):
    """What leads the SDK, or Terraform's provider, to the server at ``url`` and to nothing of the user's."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"AWS_ENDPOINT_URL": url} if url is not None else {}),
    }


@functools.lru_cache
def client(service, url, access_key=ACCESS_KEY, secret_key=SECRET_KEY):
    """The bare SDK, for what tests do by hand."""
    import boto3

    session = boto3.Session(access_key, secret_key, region_name=REGION)
    return session.client(service, endpoint_url=url)
