"""IssuerSuite: everything a TokenIssuer promises, as far as its flags go."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    CMzonSecretsError,
    IssuerError,
    TransportError,
)
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.suite import Suite
from cmzon_secrets.tokens import Token

__all__ = ["IssuerSuite"]


class IssuerSuite(Suite):
    """Subclass it as ``Test…`` with a fixture ``place`` and a method ``open``.

    A *place* is a running API, or a double of it, with what is needed to be its administrator.
    Hooks: ``unreachable``, ``dead_admin``, ``secrets_of``; excuse in ``cannot`` what there is not.
    """

    page_size: ClassVar[int] = 50
    """Entries on a page of the API's list: the suite makes one more."""
    clock_skew: ClassVar[timedelta] = timedelta(seconds=5)

    @pytest.fixture
    def place(self) -> Any:
        """The API to work against."""
        raise NotImplementedError("override the fixture place")

    def open(self, place: Any) -> TokenIssuer:
        """A fresh issuer."""
        raise NotImplementedError("override open(place)")

    def by_hand(self, place: Any, token: Token) -> None:
        """Do what an interactive issuer told its user to do in order to revoke ``token``."""

    def secrets_of(self, place: Any) -> Sequence[str]:
        """The administrator's credentials, which nothing may show."""
        raise NotImplementedError

    def unreachable(self, place: Any) -> TokenIssuer:
        """An issuer whose API refuses connections."""
        raise NotImplementedError

    def dead_admin(self, place: Any) -> TokenIssuer:
        """An issuer whose own credentials have been revoked."""
        raise NotImplementedError

    @pytest.fixture
    def issuer(self, place: Any) -> Iterator[TokenIssuer]:
        """An issuer, closed when the test ends."""
        with ExitStack() as open_ones:
            yield open_ones.enter_context(closing(self.open(place)))

    @pytest.fixture
    def name(self) -> str:
        """An account name nobody else has."""
        return f"conformance-{secrets.token_hex(6)}"

    def revoke(self, issuer: TokenIssuer, place: Any, token: Token) -> None:
        """Through the issuer, and by hand where it only tells."""
        issuer.revoke(token)
        if issuer.interactive:
            self.by_hand(place, token)

    # issue and verify

    def test_an_issued_token_is_alive(self, issuer: TokenIssuer, name: str) -> None:
        token = issue(issuer, name)
        info = issuer.verify(token)
        assert info.id == token.id
        assert info.revoked_at is None

    def test_two_keys_give_two_tokens(self, issuer: TokenIssuer, name: str) -> None:
        one, two = issue(issuer, name), issue(issuer, name)
        assert one != two
        assert one.id != two.id

    def test_the_same_key_gives_the_same_token(self, issuer: TokenIssuer, name: str) -> None:
        if not issuer.idempotent:
            pytest.skip("this issuer says that it is not idempotent")
        key = secrets.token_hex(16)
        one, two = issue(issuer, name, key), issue(issuer, name, key)
        assert one == two
        assert one.id == two.id

    def test_the_same_key_from_many_threads_gives_one_token(
        self, issuer: TokenIssuer, name: str
    ) -> None:
        if not issuer.idempotent:
            pytest.skip("this issuer says that it is not idempotent")
        key = secrets.token_hex(16)
        with ThreadPoolExecutor(4) as threads:
            tokens = list(threads.map(lambda _: issue(issuer, name, key), range(4)))
        assert {token.id for token in tokens} == {tokens[0].id}
        assert all(token == tokens[0] for token in tokens)
        if issuer.lists:
            assert [info.id for info in issuer.list(name)] == [tokens[0].id]

    def test_a_token_has_what_was_asked_for(self, issuer: TokenIssuer, name: str) -> None:
        asked_at = datetime.now(UTC)
        request = TokenRequest(
            name,
            scopes=("messages:send",),
            expires_in=timedelta(hours=1),
            allowed_ips=("127.0.0.0/8",),
        )
        token = issuer.issue(request, idempotency_key=secrets.token_hex(16))
        assert token.scopes == request.scopes
        if issuer.interactive:
            return  # what a person chose in a dashboard, nobody tells us
        assert token.allowed_ips == request.allowed_ips
        assert token.expires_at is not None
        due = asked_at + timedelta(hours=1)
        assert abs(token.expires_at - due) < self.clock_skew + timedelta(seconds=30)
        assert issuer.verify(token).expires_at == token.expires_at

    def test_seconds_are_a_duration_too(self, issuer: TokenIssuer, name: str) -> None:
        if issuer.interactive:
            pytest.skip("what a person chose in a dashboard, nobody tells us")
        asked_at = datetime.now(UTC)
        token = issuer.issue(
            TokenRequest(name, expires_in=7200.0), idempotency_key=secrets.token_hex(16)
        )
        assert token.expires_at is not None
        due = asked_at + timedelta(hours=2)
        assert abs(token.expires_at - due) < self.clock_skew + timedelta(seconds=30)

    def test_issuing_leaves_the_old_token_alive_where_tokens_overlap(
        self, issuer: TokenIssuer, name: str
    ) -> None:
        if not issuer.overlap:
            pytest.skip("this issuer says that issuing ends the old token")
        old = issue(issuer, name)
        issue(issuer, name)
        assert issuer.verify(old).id == old.id

    def test_a_token_nobody_issued_is_an_authentication_error(self, issuer: TokenIssuer) -> None:
        stranger = Token(f"cmz_{secrets.token_urlsafe(32)}")
        error = failure_of(lambda: issuer.verify(stranger))
        assert isinstance(error, AuthenticationError)
        must_hide(shown(error), stranger)

    # revoke

    def test_a_revoked_token_is_dead(self, issuer: TokenIssuer, place: Any, name: str) -> None:
        token, other = issue(issuer, name), issue(issuer, name)
        self.revoke(issuer, place, token)
        with pytest.raises(AuthenticationError):
            issuer.verify(token)
        assert issuer.verify(other).id == other.id

    def test_a_token_is_revoked_by_its_id_too(self, issuer: TokenIssuer, name: str) -> None:
        if issuer.interactive:
            pytest.skip("this issuer can only tell somebody")
        token = issue(issuer, name)
        issuer.revoke(token.id)
        with pytest.raises(AuthenticationError):
            issuer.verify(token)

    def test_a_token_known_only_by_its_fingerprint_is_revoked(
        self, issuer: TokenIssuer, place: Any, name: str
    ) -> None:
        token = issue(issuer, name)
        pasted = Token(token.reveal())
        assert not pasted.has_issuer_id
        self.revoke(issuer, place, pasted)
        with pytest.raises(AuthenticationError):
            issuer.verify(token)

    def test_revoking_again_is_no_error(self, issuer: TokenIssuer, place: Any, name: str) -> None:
        token = issue(issuer, name)
        self.revoke(issuer, place, token)
        issuer.revoke(token)
        issuer.revoke(token.id)
        issuer.revoke(Token(token.reveal()))

    @pytest.mark.parametrize("id", ["tok_nobody_issued", "../tokens", "a/b?c#d%2F"])
    def test_revoking_the_unknown_is_no_error_and_harms_nobody(
        self, id: str, issuer: TokenIssuer, name: str
    ) -> None:
        bystander = issue(issuer, name)
        issuer.revoke(id)
        issuer.revoke(Token(f"cmz_{secrets.token_urlsafe(32)}"))
        assert issuer.verify(bystander).id == bystander.id

    # list

    def test_list_tells_of_every_token_of_the_name(
        self, issuer: TokenIssuer, place: Any, name: str
    ) -> None:
        self.needs_list(issuer)
        began = datetime.now(UTC)
        live, dead = issue(issuer, name), issue(issuer, name)
        self.revoke(issuer, place, dead)
        infos = {info.id: info for info in issuer.list(name)}
        assert set(infos) == {live.id, dead.id}
        for info in infos.values():
            assert info.name == name
            assert self.is_now(info.created_at, began)
        assert infos[live.id].revoked_at is None
        assert self.is_now(infos[dead.id].revoked_at, began)

    def test_list_does_not_tell_of_other_names(self, issuer: TokenIssuer, name: str) -> None:
        self.needs_list(issuer)
        ours = issue(issuer, name)
        issue(issuer, f"{name}-other")
        assert [info.id for info in issuer.list(name)] == [ours.id]
        assert list(issuer.list(f"{name}-nobody")) == []

    def test_list_goes_on_past_the_first_page(self, issuer: TokenIssuer, name: str) -> None:
        self.needs_list(issuer)
        with ThreadPoolExecutor(4) as threads:
            tokens = list(threads.map(lambda _: issue(issuer, name), range(self.page_size + 1)))
        listed = [info.id for info in issuer.list(name)]
        assert sorted(listed) == sorted(token.id for token in tokens)

    def test_verifying_is_not_using(self, issuer: TokenIssuer, name: str) -> None:
        self.needs_list(issuer)
        token = issue(issuer, name)
        issuer.verify(token)
        info: TokenInfo = next(issuer.list(name))
        assert info.last_used_at is None

    def test_an_issuer_that_cannot_list_says_so(self, issuer: TokenIssuer, name: str) -> None:
        if issuer.lists:
            pytest.skip("this issuer lists")
        with pytest.raises(IssuerError):
            list(issuer.list(name))

    def needs_list(self, issuer: TokenIssuer) -> None:
        """Skip where the issuer says that it cannot."""
        if not issuer.lists:
            pytest.skip("this issuer says that it cannot list")

    def is_now(self, moment: datetime | None, began: datetime) -> bool:
        """Within this test, as far as two clocks agree; UTC."""
        if moment is None or moment.tzinfo is not UTC:
            return False
        return began - self.clock_skew <= moment <= datetime.now(UTC) + self.clock_skew

    # errors

    def test_no_answer_is_a_transport_error_that_says_nothing_was_sent(
        self, issuer: TokenIssuer, place: Any, name: str
    ) -> None:
        token = issue(issuer, name)
        with closing(self.ask(self.unreachable, place)) as broken:
            calls: list[Callable[[], object]] = [lambda: broken.verify(token)]
            if not broken.interactive:
                calls += [lambda: issue(broken, name), lambda: broken.revoke(token.id)]
            if broken.lists:
                calls.append(lambda: list(broken.list(name)))
            for call in calls:
                error = failure_of(call)
                assert isinstance(error, TransportError)
                assert not error.may_have_been_sent
                must_hide(shown(error), token, *self.ask(self.secrets_of, place))

    def test_dead_credentials_of_our_own_are_not_mistaken_for_a_dead_token(
        self, issuer: TokenIssuer, place: Any, name: str
    ) -> None:
        """A revoke or issue that could not be done is an error, and never AuthenticationError."""
        token = issue(issuer, name)
        with closing(self.ask(self.dead_admin, place)) as broken:
            calls: list[Callable[[], object]] = [
                lambda: issue(broken, name),
                lambda: broken.revoke(token.id),
                lambda: list(broken.list(name)),
            ]
            for call in calls:
                error = failure_of(call)
                assert isinstance(error, IssuerError | APIError)
                assert not isinstance(error, AuthenticationError)
                must_hide(shown(error), token, *self.ask(self.secrets_of, place))
            assert broken.verify(token).id == token.id

    def test_nothing_of_a_whole_life_shows_a_value(
        self,
        issuer: TokenIssuer,
        place: Any,
        name: str,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """repr, errors, logs at DEBUG, stdout and stderr."""
        caplog.set_level(logging.DEBUG)
        token = issue(issuer, name)
        texts = [repr(issuer.verify(token))]
        self.revoke(issuer, place, token)
        dead = failure_of(lambda: issuer.verify(token))
        assert isinstance(dead, CMzonSecretsError)
        if issuer.lists:
            texts.append(repr(list(issuer.list(name))))
        texts += [repr(issuer), str(issuer), shown(dead), everything_logged(caplog.records)]
        for text in [*texts, *capfd.readouterr()]:
            must_hide(text, token, *self.ask(self.secrets_of, place))

    def test_closing_twice_is_harmless(self, issuer: TokenIssuer, name: str) -> None:
        issue(issuer, name)
        issuer.close()
        issuer.close()


def issue(issuer: TokenIssuer, name: str, key: str | None = None) -> Token:
    """A token of this name; a new one unless a key is given."""
    return issuer.issue(TokenRequest(name), idempotency_key=key or secrets.token_hex(16))
