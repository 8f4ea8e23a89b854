"""``open_provider([uri, …])``: the first place that has the token.

What falls through is narrow on purpose. A place that holds nothing is passed over. One that is
down is passed over only where that was asked for (``on_outage``), because the next may hold an
older copy. One that refuses or is broken never is: somebody may have closed it. Every fall is an event.
"""

from __future__ import annotations

from collections.abc import Sequence

from cmzon_secrets.errors import (
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
    retold,
)
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

__all__ = ["Chain"]


class Chain(TokenProvider):
    """Providers in their order of trust. Owns them: closing it closes each.

    ``on_outage``: pass over a place that is down, too. ``subscriber`` is told ``chain_fell_through``
    for each place passed over. Raises ConfigurationError where there is none, or one twice.
    """

    def __init__(
        self,
        providers: Sequence[TokenProvider],
        *,
        on_outage: bool = False,
        subscriber: Subscriber | None = None,
    ) -> None:
        if not providers:
            raise ConfigurationError("chain — it needs at least one place")
        if len({id(provider) for provider in providers}) < len(providers):
            raise ConfigurationError("chain — a place stands in it twice")
        self._providers = tuple(providers)
        self._passed_over: tuple[type[ProviderError], ...] = (TokenNotFound,)
        if on_outage:
            self._passed_over = (TokenNotFound, ProviderUnavailable)
        self._emit = Emitter(subscriber, uri=self.uri)
        self._answered: TokenProvider | None = None

    @property
    def uri(self) -> str:
        """All places, in order: ``A, then B``. For people; it cannot be opened again."""
        return ", then ".join(provider.uri for provider in self._providers)

    @property
    def links(self) -> tuple[TokenProvider, ...]:
        """The places, in order."""
        return self._providers

    @property
    def answered(self) -> TokenProvider | None:
        """The place that gave the last token; None before the first."""
        return self._answered

    def get(self) -> Token:
        """The token of the first place that has one.

        Raises at once what may not be passed over. Where none has it: ProviderUnavailable if any
        place was down, for the token may well be there, else TokenNotFound; it tells of each place.
        """
        failed: list[ProviderError] = []
        for provider in self._providers:
            try:
                token = provider.get()
            except self._passed_over as error:
                failed.append(error)
                self._emit("chain_fell_through", place=provider.uri, error=type(error).__name__)
            else:
                self._answered = provider
                return token
        raise self._nowhere(failed)

    def _nowhere(self, failed: Sequence[ProviderError]) -> ProviderError:
        """One error for all places, with the remedy of the first that was down, else of the first."""
        telling = next((error for error in failed if error.retryable), failed[0])
        error = retold(telling, "; then ".join(map(str, failed)), uri=self.uri)
        error.__cause__ = telling
        return error

    def invalidate(self, token: Token) -> None:
        """Told to every place: any of them may be the one that keeps it."""
        for provider in self._providers:
            provider.invalidate(token)

    def close(self) -> None:
        """Close every place."""
        for provider in self._providers:
            provider.close()
