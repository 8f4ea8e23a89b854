"""StoreSuite: everything a TokenStore promises."""

from __future__ import annotations

from cmzon_secrets.testing.conformance.store_crashes import Crashes
from cmzon_secrets.testing.conformance.store_errors import Errors
from cmzon_secrets.testing.conformance.store_model import Modelled
from cmzon_secrets.testing.conformance.store_races import Races
from cmzon_secrets.testing.conformance.store_values import Values
from cmzon_secrets.testing.conformance.store_verbs import Verbs

__all__ = ["StoreSuite"]


class StoreSuite(Verbs, Values, Errors, Crashes, Races, Modelled):
    """Subclass it as ``Test…`` with a fixture ``new_place`` and a method ``open``.

    class TestMyStore(StoreSuite):
        cannot = {"paste": "the value is encrypted"}

        @pytest.fixture
        def new_place(self, tmp_path):
            return lambda: tmp_path / uuid.uuid4().hex

        def open(self, place, clock):
            return MyStore(place, clock=clock)

        def opener(self, place):
            return partial(open_store, f"mystore:{place}")
        ...

    Hooks: ``opener``, ``aliases``, ``paste``, ``steps``, ``denied``, ``unreachable``
    (``StoreHooks`` says what each is). Class attributes tell how fast and how exact the backend is.
    """
