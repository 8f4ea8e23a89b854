"""What type checkers make of the public names; checked, never run.

A line that must not type-check carries an ignore, and the checker reports an ignore that is not
needed: so both directions are held.
"""

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, assert_type

import httpx2

from cmzon_secrets import (
    AsyncClient,
    Client,
    CMzonIssuer,
    ManualIssuer,
    RateLimits,
    RotationPolicy,
    RotationReport,
    Rotator,
    SendResult,
    Token,
    TokenCache,
    TokenInfo,
    TokenIssuer,
    TokenProvider,
    TokenRequest,
    TokenStore,
    Versions,
    errors,
    open_provider,
    open_store,
)
from cmzon_secrets.client import Usage
from cmzon_secrets.client.outbox import Outbox, Record, Summary
from cmzon_secrets.events import Event
from cmzon_secrets.integrations import httpx_auth, requests_auth
from cmzon_secrets.integrations.opentelemetry import Spans
from cmzon_secrets.integrations.vendor_example import CMzonAPI
from cmzon_secrets.sealing import SealingKey, Stanza
from cmzon_secrets.testing import (
    IssuerSuite,
    KeySuite,
    ManualClock,
    MemoryIssuer,
    MemoryStore,
    ProviderSuite,
    StoreSuite,
)
from cmzon_secrets.uri import Location

now = datetime.now(UTC)


def tokens() -> None:
    token = Token(
        "cmz_value",
        id="tok_1",
        scopes=["messages:send"],
        issued_at=now,
        expires_at=None,
        allowed_ips=("10.0.0.1",),
    )
    assert_type(token.reveal(), str)
    assert_type(token.id, str)
    assert_type(token.scopes, tuple[str, ...])
    assert_type(token.expires_at, datetime | None)
    assert_type(token.expired(now), bool)
    Token(5)  # type: ignore[arg-type]
    Token("cmz_value", "tok_1")  # type: ignore[call-arg]

    held = Versions(current=token)
    assert_type(held.pending, Token | None)
    assert_type(held.promoted_at, datetime | None)
    assert_type(list(held), list[Token])
    assert_type(held.find("tok_1"), Token | None)
    held.current = None  # type: ignore[misc]


def places() -> None:
    assert_type(open_provider(), TokenProvider)
    assert_type(open_provider("env:CMZON_API_TOKEN"), TokenProvider)
    with open_store("file:token.sealed", key="keyfile:token.key") as store:
        assert_type(store, TokenStore)
        assert_type(store.get(), Token)
        assert_type(store.versions(), Versions)
        assert_type(store.identity, str)
        assert_type(store.uri, str)
        assert_type(store.cas, Literal["atomic", "detected"])
        store.stage(store.get())
        store.promote("tok_1", replacing=None)
        store.promote("tok_1")  # type: ignore[call-arg]
        store.discard("tok_1")
    TokenStore()  # type: ignore[abstract]

    cache = TokenCache(store, ttl=timedelta(minutes=5), max_stale=3600.0)
    assert_type(cache.get(), Token)
    cache.invalidate(cache.get())
    open_store(cache)  # type: ignore[arg-type]


def clients(provider: TokenProvider, seen: list[Event]) -> None:
    limits = RateLimits(80, 10_000, arrival_jitter=0.02)
    assert_type(RateLimits.new_account(), RateLimits)
    with Client("file:token.sealed", limits=limits, timeout=10.0, subscriber=seen.append) as client:
        assert_type(client, Client)
        result = client.send_message("+1234567890", "Hello", idempotency_key=None)
        assert_type(result, SendResult)
        assert_type(result.to, str)
        answer = client.request("GET", "/v1/tokens/self", headers={"X-Trace": "1"})
        assert_type(answer.status, int)
        assert_type(answer.headers, Mapping[str, str])
    Client(provider, ca="ca.pem", base_url="https://api.cmzon.com")
    Client(provider, idempotency="sometimes")  # type: ignore[arg-type]
    Client(provider, deadline=timedelta(minutes=1), max_attempts=3, proxy="http://proxy:3128")
    Client(provider, tracing=Spans())
    assert_type(client.usage, Usage)
    assert_type(client.usage.remaining, int | None)
    assert_type(client.usage.resets_at, datetime | None)


def limits(seen: list[Event]) -> None:
    with RateLimits(20, state="limits.db") as counted:
        assert_type(counted, RateLimits)
    RateLimits.new_account(state="limits.db")
    shared: RateLimits = RateLimits.shared(
        "rediss://redis.example/0", account="acme", processes=4, subscriber=seen.append
    )
    shared.close()
    assert_type(RateLimits.shared("redis://localhost", account="acme").degraded, bool)
    RateLimits.shared("redis://localhost")  # type: ignore[call-arg]


def outboxes(client: Client, later: datetime, stop: threading.Event) -> None:
    with client.outbox("messages.outbox", keep=timedelta(days=1)) as outbox:
        assert_type(outbox, Outbox)
        assert_type(outbox.put("+1234567890", "Hello", key="k", not_before=later), str)
        assert_type(outbox.put_many([("+1234567890", "Hello")]), int)
        summary = outbox.run(until_empty=True, stop=stop)
        assert_type(summary, Summary)
        assert_type(summary.unknown, int)
        assert_type(outbox.status(), dict[str, int])
        assert_type(outbox.dead(), list[Record])
        assert_type(outbox.retry("k") + outbox.drop(state="dead"), int)
        outbox.run(stop=5)  # type: ignore[arg-type]
        outbox.run(stop=lambda: True)


async def async_clients(provider: TokenProvider) -> None:
    async with AsyncClient(provider, limits=RateLimits.unlimited(), idempotency="trust") as client:
        assert_type(client, AsyncClient)
        result = await client.send_message("+1234567890", "Hello", priority=10)
        assert_type(result, SendResult)
        answer = await client.request("GET", "/v1/tokens/self")
        assert_type(answer.status, int)
        assert_type(client.usage.sent_today, int)
        await client.request("GET")  # type: ignore[call-arg]
        async with client.outbox("messages.outbox") as outbox:
            assert_type(await outbox.put("+1234567890", "Hello"), str)
            assert_type(await outbox.run(until_empty=True), Summary)
            assert_type(await outbox.unknown(), list[Record])


def other_libraries(provider: TokenProvider, token: Token) -> None:
    with_requests, with_httpx = requests_auth.TokenAuth(provider), httpx_auth.TokenAuth("env:T")
    assert_type(with_requests.close(), None)
    httpx2.Client(auth=with_httpx)
    httpx2.AsyncClient(auth=with_httpx)
    requests_auth.TokenAuth(token)  # type: ignore[arg-type]
    httpx_auth.TokenAuth(token)  # type: ignore[arg-type]
    for given in ("cmz_value", token, provider):
        assert_type(CMzonAPI(given, timeout=10.0), CMzonAPI)
    api = CMzonAPI("file:token.sealed")
    assert_type(api.api_token, str)
    assert_type(api.send_message("+1234567890", "Hello"), dict[str, Any])
    CMzonAPI(None)  # type: ignore[arg-type]


def issuers(provider: TokenProvider) -> None:
    issuer: TokenIssuer = CMzonIssuer("file:admin.sealed", timeout=5.0)
    assert_type(
        issuer.issue(TokenRequest("acme", expires_in=timedelta(days=90)), idempotency_key="k"),
        Token,
    )
    assert_type(issuer.verify(provider.get()), TokenInfo)
    assert_type(issuer.list("acme"), Iterator[TokenInfo])
    assert_type(issuer.overlap, bool)
    issuer.revoke("tok_1")
    issuer.revoke(provider.get())
    issuer.issue(TokenRequest("acme"))  # type: ignore[call-arg]
    ManualIssuer(ask=input, tell=print)


def rotation(store: TokenStore, issuer: TokenIssuer) -> None:
    policy = RotationPolicy("acme", rotate_every=timedelta(days=30), grace=86_400.0)
    report = Rotator(store, issuer, policy, clock=ManualClock()).run(force=True, dry_run=False)
    assert_type(report, RotationReport)
    assert_type(report.state, Literal["done", "waiting", "attention", "failed"])
    assert_type(report.next_due, datetime | None)
    for action in report.actions:
        assert_type(action.kind, str)
        assert_type(action.token_id, str)
    Rotator(store, issuer, policy).revoke(stage="current", replace=True)
    Rotator(store, issuer, policy).revoke(token_id="tok_1")


def failures(client: Client) -> None:
    try:
        client.send_message("+1234567890", "Hello")
    except errors.RateLimited as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.status, int | None)
        assert_type(error.headers, Mapping[str, str])
        assert_type(error.attempts, int)
    except errors.TransportError as error:
        assert_type(error.may_have_been_sent, bool)
    except errors.DailyLimitReached as error:
        assert_type(error.resets_at, datetime | None)
    except errors.ProviderError as error:
        assert_type(error.uri, str)
    except errors.CMzonSecretsError as error:
        assert_type(error.message, str)
        assert_type(error.hint, str | None)
        assert_type(error.retryable, bool)


class ThirdPartyProvider(TokenProvider):
    OPTIONS = frozenset({"region"})

    @classmethod
    def from_location(cls, location: Location) -> "ThirdPartyProvider":
        assert_type(location.options, Mapping[str, str])
        return cls()

    @property
    def uri(self) -> str:
        return "theirs:"

    def get(self) -> Token:
        raise errors.TokenNotFound("theirs: — empty", uri=self.uri)


class ThirdPartyKey(SealingKey):
    @property
    def uri(self) -> str:
        return "theirs:"

    def wrap(self, data_key: bytes) -> Stanza:
        return {"wrapped": data_key.hex(), "version": 1}

    def unwrap(self, stanza: Stanza) -> bytes:
        assert_type(stanza["wrapped"], str | int)
        return bytes.fromhex(str(stanza["wrapped"]))


class TestTheirs(StoreSuite):
    cannot = {"denied": "nobody is refused"}
    precision = timedelta(seconds=1)
    model_examples = 5


def suites(
    stores: StoreSuite, keys: KeySuite, issuers: IssuerSuite, providers: ProviderSuite, place: Any
) -> None:
    assert_type(stores.open(place, ManualClock()), TokenStore)
    assert_type(keys.open(place), SealingKey)
    assert_type(issuers.open(place), TokenIssuer)
    assert_type(providers.open(place), TokenProvider)
    assert_type(MemoryStore().reopen(clock=ManualClock()), MemoryStore)
    assert_type(MemoryIssuer().live, set[str])
