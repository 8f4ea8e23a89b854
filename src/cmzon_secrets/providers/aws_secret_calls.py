"""The calls of one verb about one secret in AWS Secrets Manager, and what its refusals mean.

``clouds/aws_errors.py`` is the table for all of AWS. What only this service means by a code of
everybody's (a secret that waits for deletion, a replica, a label that has moved) is told here.
"""

from __future__ import annotations

import shlex
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from cmzon_secrets.clock import Clock
from cmzon_secrets.clouds.aws import Refused, Service
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ConflictError,
    ReadOnlyProvider,
    TokenNotFound,
)
from cmzon_secrets.providers.aws_secret_values import (
    CURRENT,
    NEWEST,
    TAG,
    Labels,
    checked_secret,
    checked_version,
    promotion,
    token_in,
)
from cmzon_secrets.tokens import Token

__all__ = ["SecretCalls"]

_NOT_FOUND = "ResourceNotFoundException"
_NOT_NOW = "InvalidRequestException"
_EXISTS = "ResourceExistsException"
_LOST = ("InvalidParameterException", _NOT_FOUND)
"""How the service says that a label is not where the request takes it from."""
_UNLABELLED = "staging label"
"""A secret without AWSCURRENT has the code of one that is missing; the words that follow tell them apart."""
_UNTAGGABLE = ("AccessDeniedException", "InvalidParameterException", "LimitExceededException")


class SecretCalls:
    """Under one deadline. Every error is ours, with ``uri``.

    ``values``: version → its token, where that is known. It is right for good: a version's value
    never changes.
    """

    def __init__(
        self, name: str, service: Service, clock: Clock, values: MutableMapping[str, Token]
    ) -> None:
        self._name = name
        self._service = service
        self._clock = clock
        self._values = values
        self._calls = service.begin()

    def create(self) -> None:
        """An empty secret; there already: no change."""
        if self._name.startswith("arn:"):
            self.labels()
            return
        try:
            answer = self._calls("create_secret", expecting={_NOT_NOW, _EXISTS}, Name=self._name)
        except Refused as refused:
            if refused.code == _NOT_NOW:
                raise self._told(refused) from refused.__cause__
        else:
            checked_secret(answer, self._service.uri)

    def current(self) -> Token:
        """The value of AWSCURRENT."""
        try:
            answer = self._ask("get_secret_value", _NOT_FOUND, VersionStage=CURRENT)
        except Refused as refused:
            told = self._empty() if _UNLABELLED in refused.message else self.nothing_there()
            raise told from refused.__cause__
        token = token_in(checked_version(answer, self._service.uri), self._service.uri)
        if token is None:
            raise self._empty()
        return token

    def token(self, version: str) -> Token | None:
        """The value of a version; None where it has none, or is gone."""
        known = self._values.get(version)
        if known is not None:
            return known
        try:
            answer = self._ask("get_secret_value", _NOT_FOUND, VersionId=version)
        except Refused:
            return None
        token = token_in(checked_version(answer, self._service.uri), self._service.uri)
        if token is not None:
            self._values[version] = token
        return token

    def labels_if_any(self) -> Labels | None:
        """Which version has which label; None where there is no secret."""
        try:
            answer = self._ask("describe_secret", _NOT_FOUND)
        except Refused:
            return None
        if answer.get("DeletedDate") is not None:
            raise self._deleted()
        return Labels.described(answer, self._service.uri)

    def labels(self) -> Labels:
        """The same, where a secret must be there. Raises TokenNotFound."""
        labels = self.labels_if_any()
        if labels is None:
            raise self.nothing_there()
        return labels

    def put(
        self,
        version: str,
        token: Token,
        text: str,
        *,
        label: str = NEWEST,
        rotation_token: str | None = None,
    ) -> list[str]:
        """Write ``text``, which is ``token``, as a version, unless it is there; its labels.

        The label is taken from whatever version has it.
        """
        extra = {"RotationToken": rotation_token} if rotation_token is not None else {}
        try:
            answer = self._ask(
                "put_secret_value",
                _EXISTS,
                ClientRequestToken=version,
                SecretString=text,
                VersionStages=[label],
                **extra,
            )
        except Refused as refused:
            why = f"its version {version} has another value already"
            raise self.conflict(why) from refused.__cause__
        labels: list[str] = checked_version(answer, self._service.uri)["VersionStages"]
        self._values[version] = token
        return labels

    def move(self, label: str, *, to: str | None = None, off: str | None = None) -> bool:
        """Move a label, or take it off; False: it is not, or no longer, on ``off``."""
        versions = {"MoveToVersionId": to, "RemoveFromVersionId": off}
        given = {k: v for k, v in versions.items() if v is not None}
        try:
            answer = self._ask("update_secret_version_stage", *_LOST, VersionStage=label, **given)
        except Refused:
            return False
        checked_secret(answer, self._service.uri)
        return True

    def note_promotion(self, version: str, replaced: str | None) -> None:
        """Write the tag: after the label moved, for a grace must not begin too early.

        Without the right to tag, the secret's ``LastChangedDate`` has to do.
        """
        tag = {"Key": TAG, "Value": promotion(version, self._clock.now(), replaced)}
        with suppress(Refused):
            self._ask("tag_resource", *_UNTAGGABLE, Tags=[tag])

    def _ask(self, operation: str, *codes: str, **parameters: Any) -> dict[str, Any]:
        """One call about the secret. Raises Refused for ``codes``, else ours."""
        expecting = {_NOT_FOUND, _NOT_NOW, *codes}
        try:
            return self._calls(operation, expecting=expecting, SecretId=self._name, **parameters)
        except Refused as refused:
            if refused.code in codes:
                raise
            raise self._told(refused) from refused.__cause__

    # what went wrong

    def nothing_there(self) -> TokenNotFound:
        """No such secret, or none with a value, where AWS says no more than its code for both."""
        uri, region = self._service.uri, self._service.region
        hint = f"is {region} the right region? To store one: cmzon-secrets put --create {shlex.quote(uri)}"
        if self._name.startswith("arn:"):
            hint = "look at the ARN; a secret that is missing is made by its name: put --create"
        return TokenNotFound(
            f"{uri} — there is no such secret in {region}, or it holds no token", uri=uri, hint=hint
        )

    def _empty(self) -> TokenNotFound:
        """The secret is there: an apply made it, or somebody by hand."""
        uri = self._service.uri
        hint = f"store one with: cmzon-secrets put {shlex.quote(uri)}"
        return TokenNotFound(f"{uri} — it holds no token yet", uri=uri, hint=hint)

    def conflict(self, why: str) -> ConflictError:
        """Somebody else moved the stages."""
        uri = self._service.uri
        return ConflictError(f"{uri} — {why}", uri=uri, hint="read the stages again")

    def replica(self, primary: str) -> ReadOnlyProvider:
        """A copy that the service keeps of a secret elsewhere."""
        uri = self._service.uri
        return ReadOnlyProvider(
            f"{uri} — it is a replica; the secret itself is in {primary or 'another region'}",
            uri=uri,
            hint=f"write there: region={primary or 'the primary region'}",
        )

    def _told(self, refused: Refused) -> CMzonSecretsError:
        if refused.code == _NOT_FOUND:
            return self.nothing_there()
        if "delet" in refused.message:
            return self._deleted()
        if "replica" in refused.message:
            return self.replica("")
        return ConfigurationError(
            f"{self._service.uri} — AWS refuses it: {refused.message or refused.code}"
        )

    def _deleted(self) -> TokenNotFound:
        uri = self._service.uri
        named = f"--secret-id {self._name} --region {self._service.region}"
        return TokenNotFound(
            f"{uri} — the secret is scheduled for deletion",
            uri=uri,
            hint=f"to have it back: aws secretsmanager restore-secret {named}",
        )
