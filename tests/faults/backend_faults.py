"""The table of docs/faults.md as a suite: one test a row, for each backend that subclasses it."""

import re
from pathlib import Path

import pytest

from cmzon_secrets import errors

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def table():
    """Fault → scheme → name of the error, or None for what cannot happen there."""
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    schemes = rows[0][1:]
    return {
        fault: {s: None if cell == "—" else cell for s, cell in zip(schemes, cells, strict=True)}
        for fault, *cells in rows[2:]
    }


TABLE = table()


class BackendFaults:
    """Subclass it as ``Test…`` with ``scheme``, and a fixture for each fault that its column has.

    The fixture of ``deleted but recoverable`` is named ``deleted_but_recoverable``. It returns (or
    yields) a provider on which that fault has happened, or a function that opens it, with a short
    deadline where the fault is a wait; and a word that the error's message or hint must contain so that people know what to do.
    """

    scheme: str

    @pytest.mark.parametrize("fault", TABLE)
    def test_the_table_is_true(self, fault, request):
        expected = TABLE[fault][self.scheme]
        fixture = re.sub(r"\W+", "_", fault).lower()
        if expected is None:
            assert not hasattr(self, fixture), f"the table says that {fault} cannot happen"
            return
        provider, word = request.getfixturevalue(fixture)
        with pytest.raises(errors.CMzonSecretsError) as caught, opened(provider) as place:
            place.get()
        error = caught.value
        assert type(error).__name__ == expected
        assert error.retryable is (expected == "ProviderUnavailable")
        assert error.message.isprintable()
        assert word.lower() in f"{error.message} {error.hint}".lower()


def opened(provider):
    """The provider itself, or what the function opens."""
    return provider() if callable(provider) else provider
