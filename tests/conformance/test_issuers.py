"""CMzonIssuer and ManualIssuer, each against the emulator."""

import socket
from contextlib import closing
from secrets import token_hex

import pytest

from cmzon_secrets import CMzonIssuer, ManualIssuer, Token, TokenRequest
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing import IssuerSuite, MemoryStore


@pytest.fixture(scope="module")
def emulator():
    with Emulator(strict=True) as running:
        yield running


def nobody():
    """The URL of a port that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def admin_of(emulator):
    """A store that holds the emulator's admin token."""
    return holding(Token(emulator.admin_token))


def dashboard(emulator):
    return CMzonIssuer(admin_of(emulator), base_url=emulator.base_url)


def holding(token):
    store = MemoryStore()
    store.stage(token)
    store.promote(token.id, replacing=None)
    return store


class TestCMzonIssuer(IssuerSuite):
    @pytest.fixture
    def place(self, emulator):
        return emulator

    def open(self, place):
        return dashboard(place)

    def secrets_of(self, place):
        return [place.admin_token]

    def unreachable(self, place):
        return CMzonIssuer(admin_of(place), base_url=nobody())

    def dead_admin(self, place):
        with closing(self.open(place)) as issuer:
            request = TokenRequest("admin", scopes=("tokens:manage",))
            admin = issuer.issue(request, idempotency_key=token_hex(16))
            issuer.revoke(admin)
        return CMzonIssuer(holding(admin), base_url=place.base_url)


class TestManualIssuer(IssuerSuite):
    """The person at the dashboard is played by a CMzonIssuer."""

    cannot = {"dead_admin": "it has no credentials of its own"}

    @pytest.fixture
    def place(self, emulator):
        return emulator

    def open(self, place):
        def made_at_the_dashboard(prompt):
            with closing(dashboard(place)) as page:
                request = TokenRequest("by hand")
                return page.issue(request, idempotency_key=token_hex(16)).reveal()

        return ManualIssuer(
            base_url=place.base_url, ask=made_at_the_dashboard, tell=lambda text: None
        )

    def by_hand(self, place, token):
        with closing(dashboard(place)) as page:
            page.revoke(Token(token.reveal()))

    def secrets_of(self, place):
        return [place.admin_token]

    def unreachable(self, place):
        return ManualIssuer(base_url=nobody(), tell=lambda text: None)
