"""Secrets Manager as the service behaves where the emulators do not: a small strict double.

The real SDK talks to it over HTTP. Rules and codes are those of the API Reference; where that is silent
(whether a repeated PutSecretValue attaches labels; whether a label may be moved to where it is) the
double does what is harder for a client: it does not, and refuses. The first version of a secret gets
AWSCURRENT; a version id never gets another value; AWSPENDING without ``RemoveFromVersionId`` is refused
while another version has it; versions without a label are not shown. Signatures are not checked, access
keys are.
"""

import re
import secrets
import threading
import time
from dataclasses import dataclass, field

import pytest

from servers.aws_environment import ACCESS_KEY, REGION, use_aws
from servers.strict_kms import Refusal, serving

ACCOUNT = "111122223333"
CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
MAX_BYTES, MAX_LABELS, MAX_TAGS = 65_536, 20, 50


@dataclass
class Version:
    value: dict | None
    """``SecretString`` or ``SecretBinary``; None: a native rotation has announced it."""
    labels: list = field(default_factory=list)
    created: float = field(default_factory=time.time)


@dataclass
class Secret:
    name: str
    region: str = REGION
    versions: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    kms_key: str = "enabled"
    """``enabled``, ``disabled``, or ``denied`` to the caller."""
    deleted: float | None = None
    primary_region: str | None = None
    changed: float = field(default_factory=time.time)

    def __post_init__(self):
        suffix = secrets.token_hex(3)
        self.arn = f"arn:aws:secretsmanager:{self.region}:{ACCOUNT}:secret:{self.name}-{suffix}"

    def holder(self, label):
        return next((v for v, version in self.versions.items() if label in version.labels), None)

    def label(self, version_id, label):
        """Put a label where it belongs, taking it from where it was; CURRENT leaves PREVIOUS behind."""
        before = self.holder(label)
        if before == version_id:
            return
        if len(self.versions[version_id].labels) >= MAX_LABELS:
            raise Refusal("LimitExceededException", "The request failed: too many labels.")
        if before is not None:
            self.versions[before].labels.remove(label)
            if label == CURRENT:
                self.unlabel(PREVIOUS)
                self.versions[before].labels.append(PREVIOUS)
        if label == CURRENT and PREVIOUS in self.versions[version_id].labels:
            self.versions[version_id].labels.remove(PREVIOUS)
        self.versions[version_id].labels.append(label)

    def unlabel(self, label):
        holder = self.holder(label)
        if holder is not None:
            self.versions[holder].labels.remove(label)


class StrictSecretsManager:
    """The double; ``fail``, ``latency``, ``denied`` and ``expired`` are its faults."""

    def __init__(self):
        self.url = ""
        self.reset()

    def reset(self):
        """Without secrets, faults or calls."""
        self.secrets = {}
        self.access_keys = {ACCESS_KEY}
        self.expired = set()
        self.denied = set()
        """Access keys, and operations, that may not."""
        self.max_versions = 100
        self.failure, self.failures_left = None, 0
        self.latency = 0.0
        self.calls = []
        self.clock = time.time
        self.raw = None
        self._lock = threading.Lock()

    def fail(self, code, message="", status=400, *, times=float("inf")):
        """Answer the next calls, so many of them, with this error."""
        self.failure, self.failures_left = Refusal(code, message, status), times

    def announce_rotation(self, name):
        """What RotateSecret does first: AWSPENDING on a version that has no value yet."""
        secret, version_id = self.secrets[name], secrets.token_hex(16)
        secret.versions[version_id] = Version(None)
        secret.label(version_id, PENDING)
        return version_id

    def answer(self, operation, access_key, request):
        """Status and body."""
        self.calls.append(operation)
        time.sleep(self.latency)
        with self._lock:
            try:
                if self.failures_left > 0:
                    self.failures_left -= 1
                    raise self.failure
                self._authorize(operation, access_key)
                return 200, getattr(self, f"_{_snake(operation)}")(request)
            except Refusal as refusal:
                code, message, status = refusal.args
                return status, {"__type": code, "Message": message}

    def _authorize(self, operation, access_key):
        if access_key in self.expired:
            raise Refusal(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            )
        if access_key not in self.access_keys | self.denied:
            raise Refusal(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        if self.denied & {access_key, operation}:
            user = f"arn:aws:iam::{ACCOUNT}:user/{access_key}"
            why = f"User: {user} is not authorized to perform: secretsmanager:{operation}"
            raise Refusal("AccessDeniedException", why)

    # operations

    def _create_secret(self, request):
        name = request["Name"]
        if re.fullmatch(r"[A-Za-z0-9/_+=.@-]{1,512}", name) is None:
            raise Refusal("ValidationException", "Invalid name.")
        if name in self.secrets:
            if self.secrets[name].deleted:
                raise Refusal(
                    "InvalidRequestException",
                    "You can't create this secret because a secret with this name is already"
                    " scheduled for deletion.",
                )
            raise Refusal(
                "ResourceExistsException",
                f"The operation failed because the secret {name} already exists.",
            )
        self.secrets[name] = secret = Secret(name)
        if {"SecretString", "SecretBinary"} & request.keys():
            self._put_secret_value({**request, "SecretId": name})
        return self._names(secret)

    def _get_secret_value(self, request):
        secret = self._living(request)
        wanted, stage = request.get("VersionId"), request.get("VersionStage")
        version_id = wanted or secret.holder(stage or CURRENT)
        version = secret.versions.get(version_id)
        if wanted and stage and version and stage not in version.labels:
            raise Refusal(
                "InvalidRequestException",
                "You provided a VersionStage that is not associated to the provided VersionId.",
            )
        if version is None or version.value is None:
            what = f"VersionId: {wanted}" if wanted else f"staging label: {stage or CURRENT}"
            raise Refusal(
                "ResourceNotFoundException",
                f"Secrets Manager can't find the specified secret value for {what}",
            )
        self._use_key(secret, "DecryptionFailure", "decrypt")
        return {
            **self._names(secret),
            "VersionId": version_id,
            "VersionStages": version.labels,
            "CreatedDate": version.created,
            **version.value,
        }

    def _put_secret_value(self, request):
        secret = self._writable(request)
        value = {k: request[k] for k in ("SecretString", "SecretBinary") if k in request}
        if len(value) != 1:
            raise Refusal("InvalidParameterException", "You must provide one of the two values.")
        if len(next(iter(value.values())).encode()) > MAX_BYTES:
            raise Refusal(
                "ValidationException", f"Value {next(iter(value.values()))!r} is too long"
            )
        version_id = request["ClientRequestToken"]
        if not 32 <= len(version_id) <= 64:
            raise Refusal(
                "InvalidParameterException", "ClientRequestToken must be 32-64 characters."
            )
        known = secret.versions.get(version_id)
        if known is not None and known.value not in (None, value):
            raise Refusal(
                "ResourceExistsException",
                f"You can't use ClientRequestToken {version_id} because that value is already in use"
                f" for a version of secret {secret.arn}.",
            )
        if known is None or known.value is None:
            self._use_key(secret, "EncryptionFailure", "encrypt")
            self._write(secret, version_id, value, request.get("VersionStages", [CURRENT]))
        labels = secret.versions[version_id].labels
        return {**self._names(secret), "VersionId": version_id, "VersionStages": labels}

    def _write(self, secret, version_id, value, labels):
        if len(secret.versions) >= self.max_versions:
            raise Refusal("LimitExceededException", "You've exceeded the quota of versions.")
        first = all(version.value is None for version in secret.versions.values())
        secret.versions.setdefault(version_id, Version(None)).value = value
        for label in [*labels, CURRENT] if first else labels:
            secret.label(version_id, label)
        secret.changed = self.clock()

    def _update_secret_version_stage(self, request):
        secret, label = self._writable(request), request["VersionStage"]
        to, off = request.get("MoveToVersionId"), request.get("RemoveFromVersionId")
        if {to, off} - {None} - secret.versions.keys():
            raise Refusal(
                "ResourceNotFoundException", "Secrets Manager can't find the specified version."
            )
        if secret.holder(label) != off:
            raise Refusal(
                "InvalidParameterException",
                f"The staging label {label} is currently attached to version"
                f" {secret.holder(label)}: RemoveFromVersionId must name it.",
            )
        if to is None and label == CURRENT:
            raise Refusal("InvalidParameterException", "You can't remove AWSCURRENT.")
        if to is None:
            secret.unlabel(label)
        else:
            secret.label(to, label)
        secret.changed = self.clock()
        return self._names(secret)

    def _describe_secret(self, request):
        secret = self._found(request)
        answer = {
            **self._names(secret),
            "LastChangedDate": secret.changed,
            "Tags": [{"Key": k, "Value": v} for k, v in secret.tags.items()],
            "PrimaryRegion": secret.primary_region,
            "DeletedDate": secret.deleted,
            "VersionIdsToStages": {
                v: version.labels for v, version in secret.versions.items() if version.labels
            },
        }
        return {k: v for k, v in answer.items() if v is not None}

    def _tag_resource(self, request):
        secret = self._writable(request)
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        for value in tags.values():
            if re.fullmatch(r"[\w +\-=.:/@]{0,256}", value) is None:
                raise Refusal("InvalidParameterException", "Invalid tag value.")
        if len(secret.tags | tags) > MAX_TAGS:
            raise Refusal("InvalidParameterException", "Too many tags.")
        secret.tags |= tags
        secret.changed = self.clock()
        return {}

    def _delete_secret(self, request):
        secret = self._living(request)
        secret.deleted = self.clock() + request.get("RecoveryWindowInDays", 30) * 86_400
        return {**self._names(secret), "DeletionDate": secret.deleted}

    def _restore_secret(self, request):
        secret = self._found(request)
        secret.deleted = None
        return self._names(secret)

    # what they share

    def _found(self, request):
        wanted = request["SecretId"]
        for secret in self.secrets.values():
            if wanted in (secret.name, secret.arn, secret.arn[:-7]):
                return secret
        raise Refusal(
            "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
        )

    def _living(self, request):
        secret = self._found(request)
        if secret.deleted:
            raise Refusal(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            )
        return secret

    def _writable(self, request):
        secret = self._living(request)
        if secret.primary_region not in (None, secret.region):
            raise Refusal("InvalidRequestException", "Operation not permitted on a replica secret.")
        return secret

    def _use_key(self, secret, code, verb):
        if secret.kms_key == "denied":
            raise Refusal("AccessDeniedException", "Access to KMS is not allowed")
        if secret.kms_key == "disabled":
            why = f"Secrets Manager can't {verb} the secret value: the KMS key is disabled."
            raise Refusal(code, why)

    def _names(self, secret):
        return {"ARN": secret.arn, "Name": secret.name}


def _snake(operation):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


@pytest.fixture(scope="session")
def strict_aws_server():
    with serving(StrictSecretsManager()) as double:
        yield double


@pytest.fixture
def strict_aws(strict_aws_server, monkeypatch):
    """The double, empty, as the SDK's environment finds it, with an access key that it knows."""
    use_aws(monkeypatch, url=strict_aws_server.url)
    strict_aws_server.reset()
    return strict_aws_server
