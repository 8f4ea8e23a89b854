"""AWS: the one table of what its failures mean, by error code or by the SDK's exception.

Keys of the table are strings, so that no SDK is loaded to read it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
    without_frames,
)

__all__ = ["CLOCK", "SOURCES", "Failure"]

SOURCES = {
    "env": (
        "the environment (AWS_ACCESS_KEY_ID)",
        "export new AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    ),
    "shared-credentials-file": ("the credentials file", "renew them: aws configure{profile}"),
    "config-file": ("the configuration file", "renew them: aws configure{profile}"),
    "sso": ("IAM Identity Center", "aws sso login{profile}"),
    "login": ("the console login", "aws login{profile}"),
    "custom-process": ("credential_process", "run the credential_process of the profile by hand"),
    "assume-role": ("a role that the profile assumes", "renew what its source_profile names"),
    "assume-role-with-web-identity": (
        "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)",
        "look at the service account's annotation and the role's trust policy",
    ),
    "container-role": ("the container's role", "look at the task's role or Pod Identity"),
    "iam-role": ("the instance's role", "look at the instance profile"),
}
"""The SDK's name of a source → what people call it, and how it is renewed."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One of our errors. ``forget``: it is the credentials; look for others."""

    error: type[CMzonSecretsError]
    why: str
    hint: str | None = None
    attempts: float = 1
    forget: bool = False

    def error_at(self, uri: str, words: dict[str, str]) -> CMzonSecretsError:
        message = f"{uri} — {self.why.format(**words)}"
        hint = self.hint.format(**words) if self.hint is not None else None
        if issubclass(self.error, ProviderError):
            return self.error(message, uri=uri, hint=hint)
        return self.error(message, hint=hint)


CLOCK = Meaning(
    AccessDenied,
    "AWS refuses the signature: this machine's clock is {skew} s off",
    "set the clock (timedatectl, chronyc makestep)",
)
_THROTTLED = Meaning(
    ProviderUnavailable,
    "AWS throttles these requests",
    "read less often (TokenCache does), or ask AWS for a higher quota",
    attempts=float("inf"),
)
_DOWN = Meaning(ProviderUnavailable, "AWS failed ({code})", "try again", attempts=3)
_NO_CONNECTION = Meaning(
    ProviderUnavailable,
    "no connection to AWS ({code})",
    "look at the network, the proxy, the VPC endpoint, and whether {region} is the right region",
    attempts=3,
)
_DENIED = Meaning(
    AccessDenied,
    "AWS refuses it: {said}",
    "grant what {policy} prints{or_wrong}",
)
_DEAD = Meaning(
    AccessDenied,
    "AWS does not accept the credentials from {source} ({code})",
    "{renewal}",
    attempts=2,
    forget=True,
)
_EXPIRED = Meaning(
    AccessDenied,
    "the credentials from {source} have expired",
    "{renewal}",
    attempts=2,
    forget=True,
)
_NO_CREDENTIALS = Meaning(
    AccessDenied,
    "there are no usable AWS credentials ({code})",
    "{first}run `aws configure{profile}` or `aws sso login{profile}`",
)
_LOGIN = Meaning(
    AccessDenied,
    "the login of the AWS profile has expired or is missing ({code})",
    "aws sso login{profile}, or aws login{profile}",
    forget=True,
)
_NOT_ACCEPTED = Meaning(ConfigurationError, "AWS does not accept the request ({code})")
_NOT_AWS = Meaning(
    ProviderUnavailable,
    "the answer cannot be understood ({code})",
    "is it AWS that answers, or a proxy?",
    attempts=3,
)
_UNUSABLE_KEY = Meaning(
    AccessDenied,
    "its KMS key cannot be used: it is disabled, or waits for deletion ({code})",
    "aws kms describe-key, then aws kms enable-key, or cancel-key-deletion and enable-key, for the key"
    " that describe-secret names",
)

_TABLE = {
    # by error code
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "UnauthorizedOperation": _DENIED,
    "AssumeRole:AccessDenied": Meaning(
        AccessDenied,
        "{role} may not be assumed: {said}",
        "its trust policy must name the caller, and the caller needs sts:AssumeRole on it",
    ),
    "DisabledException": Meaning(
        AccessDenied, "the KMS key is disabled", "aws kms enable-key --key-id {key}{region_option}"
    ),
    "KMSInvalidStateException": Meaning(
        AccessDenied,
        "the KMS key cannot be used in its state: {said}",
        "where it waits for deletion: aws kms cancel-key-deletion --key-id {key}{region_option}, then enable-key",
    ),
    "DecryptionFailure": _UNUSABLE_KEY,
    "EncryptionFailure": _UNUSABLE_KEY,
    "NotFoundException": Meaning(
        ConfigurationError,
        "there is no such KMS key in {region}",
        "look at the key's id or alias, the region and the account: aws kms describe-key --key-id {key}",
    ),
    "ResourceNotFoundException": Meaning(
        TokenNotFound, "there is no such secret in {region}, or it has no such version"
    ),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "UnrecognizedClientException": _DEAD,
    "InvalidClientTokenId": _DEAD,
    "InvalidAccessKeyId": _DEAD,
    "AuthFailure": _DEAD,
    "IncompleteSignature": _DEAD,
    "IncompleteSignatureException": _DEAD,
    "InvalidSignatureException": _DEAD,
    "SignatureDoesNotMatch": _DEAD,
    "RequestExpired": _DEAD,
    "RequestTimeTooSkewed": _DEAD,
    "MissingAuthenticationToken": _DEAD,
    "MissingAuthenticationTokenException": _DEAD,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "429": _THROTTLED,
    "LimitExceededException": Meaning(
        ProviderUnavailable,
        "a quota of AWS is used up ({said})",
        "versions without a label make room after a day; tokens need no more than one in 10 minutes",
    ),
    "DependencyTimeoutException": _DOWN,
    "InternalServiceError": _DOWN,
    "KeyUnavailableException": _DOWN,
    "KMSInternalException": _DOWN,
    "5xx": _DOWN,
    "3xx": _NOT_AWS,
    "403": _DENIED,
    "ClientError": _NOT_ACCEPTED,
    # by the name of the SDK's exception, or of what it is derived from
    "ProfileNotFound": Meaning(
        ConfigurationError, "{said}", "aws configure list-profiles names those there are"
    ),
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "CredentialRetrievalError": Meaning(
        AccessDenied,
        "the credentials of the AWS profile cannot be had",
        "run the profile's credential_process, or `aws sts get-caller-identity`, by hand to see why",
    ),
    "NoAuthTokenError": _LOGIN,
    "TokenRetrievalError": _LOGIN,
    "SSOError": _LOGIN,
    "LoginError": _LOGIN,
    "MetadataRetrievalError": Meaning(
        ProviderUnavailable, "the service that hands out this machine's credentials does not answer"
    ),
    "SSLError": Meaning(
        ProviderUnavailable,
        "the TLS certificate of AWS cannot be verified",
        "where a proxy inspects TLS, export AWS_CA_BUNDLE with its certificate",
    ),
    "ConnectionError": _NO_CONNECTION,
    "HTTPClientError": _NO_CONNECTION,
    "IncompleteReadError": _NO_CONNECTION,
    "BotoCoreError": Meaning(ConfigurationError, "AWS's SDK cannot be used so ({code})"),
    "Exception": _NOT_AWS,
}

_QUOTING = {
    "CredentialRetrievalError",
    "ParamValidationError",
    "ValidationException",
    "SerializationException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
}
"""These quote what was sent, or what a program printed; so may any that the table does not know.
They are not kept as a cause, and their words stand in no message of ours."""


class Failure:
    """What the SDK raised: its code, its meaning, what may be quoted of it.

    ``parameters`` went with the request: an answer that repeats a secret of theirs is not quoted.
    """

    def __init__(self, error: Exception, operation: str, parameters: Mapping[str, Any]) -> None:
        response = getattr(error, "response", None) or {}
        details = response.get("Error", {})
        self.operation = operation
        self.key = str(parameters.get("KeyId", "KEY"))
        self.metadata: dict[str, Any] = response.get("ResponseMetadata", {})
        kinds = [cls.__name__ for cls in type(error).__mro__]
        self.code = str(details.get("Code") or kinds[0])
        status = int(self.metadata.get("HTTPStatusCode", 0))
        step = getattr(error, "operation_name", "")
        names = chain((f"{step}:{self.code}", self.code, f"{status}", f"{status // 100}xx"), kinds)
        self.meaning = next(_TABLE[name] for name in names if name in _TABLE)
        unknown = self.meaning in (_NOT_ACCEPTED, _NOT_AWS)
        words = str(details.get("Message") or ("" if details else error))
        repeats = _repeats(f"{error} {self.code} {response}", parameters)
        sayable = self.code in _TABLE or (_CODE.fullmatch(self.code) and not repeats)
        self.shown_code = self.code if sayable else _UNKNOWN
        self.said = "" if repeats else _printable(words)
        kept = not (unknown or repeats or self.code in _QUOTING)
        self.cause = without_frames(error) if kept else None


_CODE = re.compile(r"[\w.:-]{1,80}", re.ASCII)
_UNKNOWN = "an unknown code"
_SECRETS = ("SecretString", "Plaintext", "RotationToken")
"""Parameters that no answer has to repeat. A ciphertext may begin with the id of its key."""
_LEAST = 8
"""Characters of a secret that are too many."""


def _repeats(answer: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the answer holds a piece of a secret that was sent."""
    sent = [text for name in _SECRETS if name in parameters for text in _forms(parameters[name])]
    pieces = {text[i : i + _LEAST] for text in sent for i in range(len(text) - _LEAST + 1)}
    return any(answer[i : i + _LEAST] in pieces for i in range(len(answer) - _LEAST + 1))


def _forms(secret: str | bytes) -> tuple[str, ...]:
    """As a server may repeat it: as it went over the wire, or as it is. The JSON holds the token bare."""
    if isinstance(secret, str):
        return (secret,)
    return secret.decode("latin-1"), b64encode(secret).decode()


def _printable(words: str) -> str:
    return "".join(c if c.isprintable() else " " for c in words[:500]).strip()
