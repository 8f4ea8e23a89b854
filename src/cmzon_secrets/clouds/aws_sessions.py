"""AWS: where to go and as whom. One SDK session per process, place and environment.

Credentials come from the SDK's own chain, in its order: ``AWS_ACCESS_KEY_ID`` and its companions,
a profile (static keys, ``aws sso login``, ``credential_process``), web identity (EKS), the container's
role (ECS, EKS Pod Identity), the instance's role (EC2). ``role_arn`` is assumed with them, under
the session name ``cmzon-secrets``, and assumed anew some minutes before its credentials expire.

The region is the first of: ``region`` in the URI, the one in an ARN, ``AWS_REGION``,
``AWS_DEFAULT_REGION``, the profile's.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from cmzon_secrets.clouds.aws_wire import checked_address, guard, is_local
from cmzon_secrets.clouds.pool import Pool
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import ConfigurationError, InvalidURI
from cmzon_secrets.uri import Location

__all__ = ["OPTIONS", "SESSIONS", "Place", "Session", "quietly"]

_T = TypeVar("_T")

OPTIONS = frozenset({"region", "profile", "role_arn", "endpoint_url"})
"""What every AWS URI takes."""

_ARN = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]+):([0-9]{12}):(.+)", re.ASCII)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}[a-z0-9-]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom; what is None is left to the SDK's own configuration."""

    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    endpoint_url: str | None = None

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """The options of a URI, and the region of the ARN that its path may be.

        Raises InvalidURI for an option that cannot be right, ConfigurationError for plain http.
        """
        options = location.options
        region, arn = options.get("region"), _ARN.fullmatch(location.path)
        if location.path.startswith("arn:") and arn is None:
            raise InvalidURI(
                f"{location.scheme}: URI — its ARN is not arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME"
            )
        if region is not None and _REGION.fullmatch(region) is None:
            raise InvalidURI(
                f"{location.scheme}: URI — option 'region' is no region name",
                hint="for example region=eu-central-1",
            )
        if arn is not None and region not in (None, arn[3]):
            raise InvalidURI(
                f"{location.scheme}: URI — region={region}, but its ARN is in {arn[3]}",
                hint="leave out region=",
            )
        role = options.get("role_arn")
        if role is not None and _ROLE.fullmatch(role) is None:
            raise InvalidURI(
                f"{location.scheme}: URI — option 'role_arn' is not arn:aws:iam::ACCOUNT:role/NAME"
            )
        return cls(
            region=arn[3] if arn is not None else region,
            profile=options.get("profile"),
            role_arn=role,
            endpoint_url=checked_address(options.get("endpoint_url"), "option endpoint_url"),
        )

    @property
    def profile_in_use(self) -> str | None:
        """That of the URI, or of the environment."""
        said = (self.profile, *map(os.environ.get, ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")))
        return next(filter(None, said), None)


class Session:
    """One place in one environment: its credentials, and one client for each service."""

    def __init__(self, place: Place) -> None:
        from botocore.session import Session as BotocoreSession

        _silence()
        self._core: Any = BotocoreSession(profile=place.profile)
        guard(self._core)
        self._core.register_component(
            "data_loader", _loader(self._core.get_config_variable("data_path"))
        )
        self._place = place
        self._clients: dict[str, Any] = {}
        self._opening = threading.RLock()  # making a client is not thread-safe, using one is
        self.region = self._found_region()
        self._core.set_config_variable(
            "region", self.region
        )  # the SDK's own calls to STS need one, too
        self.source: str | None = None
        """The SDK's name for where the credentials came from (``env``, ``sso``), once there are some."""

    def client(self, service: str) -> Any:
        """The shared client, which threads may use together. Raises NoCredentialsError."""
        client = self._clients.get(service)
        if client is None:
            with self._opening:
                self._find_credentials()
                client = self._clients.get(service) or self._made(service)
                self._clients[service] = client
        return client

    def close(self) -> None:
        """Give back idle connections; the clients go on and open new ones."""
        for client in list(self._clients.values()):
            client.close()

    def _find_credentials(self) -> None:
        from botocore.exceptions import NoCredentialsError

        if self.source is not None:
            return
        credentials = self._core.get_credentials()
        if credentials is None:
            raise NoCredentialsError  # a client made without any would never find them
        if self._place.role_arn is not None:
            self._core._credentials = self._assumed(self._place.role_arn, credentials)  # noqa: SLF001  # the SDK offers no other way
        self.source = credentials.method

    def _assumed(self, role_arn: str, source: Any) -> Any:
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._made,
            source_credentials=source,
            role_arn=role_arn,
            extra_args={"RoleSessionName": "cmzon-secrets"},
        )
        return DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )

    def _made(self, service: str, **credentials: str | None) -> Any:
        """A new client, whose final address has been looked at, wherever it was configured."""
        with self._opening:
            client = self._unchecked(service, credentials)
            address = client.meta.endpoint_url
            checked_address(address, f"the address configured for AWS {service}")
            _silence()
        return client

    def _unchecked(self, service: str, credentials: Mapping[str, str | None]) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=3.0,  # longer means trying again is better than waiting
            read_timeout=DEFAULT_DEADLINE,
            retries={"mode": "standard", "total_max_attempts": 1},  # ours know the deadline
            tcp_keepalive=True,
            max_pool_connections=50,
            user_agent_extra="cmzon-secrets",
        )
        return self._core.create_client(
            service,
            region_name=self.region,
            endpoint_url=self._endpoint(service),
            config=config,
            **credentials,
        )

    def _endpoint(self, service: str) -> str | None:
        """``endpoint_url`` is the service's own; one on this machine is an emulator of them all."""
        url = self._place.endpoint_url
        return url if service != "sts" or url is None or is_local(url) else None

    def _found_region(self) -> str:
        found = (
            self._place.region
            or os.environ.get("AWS_REGION")
            or self._core.get_config_variable("region")
        )
        if not found:
            raise ConfigurationError(
                "no AWS region is configured", hint="export AWS_REGION, or add region= to the URI"
            )
        if _REGION.fullmatch(found) is None:
            raise ConfigurationError("the AWS region that is configured is no region name")
        return str(found)


class _Sessions(Pool[Session]):
    """The process's sessions. A changed environment is another session; a child has its own."""

    def session(self, place: Place) -> Session:
        """The session of a place. Raises ConfigurationError, or an error of the SDK."""
        return self.of((place, _environment()), functools.partial(Session, place))


SESSIONS = _Sessions()


@functools.lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    """The SDK's descriptions of its services, megabytes of them: once for all sessions."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def _environment() -> str:
    """All that the environment says to the SDK, as a digest: it holds keys."""
    names = sorted(n for n in os.environb if n.startswith(b"AWS_") or n == b"HOME")
    said = [(name, os.environb.get(name)) for name in names]  # few of many: each call comes here
    return hashlib.sha256(repr(said).encode()).hexdigest()


# The SDK logs whole requests and answers at DEBUG, with what they carry. Not those of ours.

_OURS: ContextVar[bool] = ContextVar("cmzon_secrets_aws", default=False)


def quietly(function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """``function(…)``, during which the SDK logs nothing at DEBUG."""
    reset = _OURS.set(True)
    try:
        return function(*args, **kwargs)
    finally:
        _OURS.reset(reset)


def _nothing_of_ours(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or not _OURS.get()


def _silence() -> None:
    """The filter on each logger of the SDK: filters of a parent are not asked."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("boto3", "botocore"):
            logging.getLogger(name).addFilter(_nothing_of_ours)
