"""The venue's list of markets: when it is read, and what becomes of one that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_services.domain.instruments import Symbol
from aether_services.ingest.core.rejections import Rejections
from aether_services.ingest.ports import InstrumentList, OutputUnavailable, VenueUnavailable
from aether_services.ingest.service.instrument_list import InstrumentListReader
from aether_testing.values import clocks
from aether_testing.values.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aether_services.domain.instruments import Instrument


class Lister:
    """A venue's list of markets, and where it is written down; either may fail."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.listed = InstrumentList()
        self.read: list[float] = []
        self.kept: list[Sequence[Instrument]] = []
        self.rest_errors: list[Exception] = []
        self.instrument_list = InstrumentListReader(self, self, self.clock, Rejections())  # type: ignore[arg-type]  # of which it asks only this

    async def instruments(self) -> InstrumentList:
        """The list."""
        self.read.append(self.clock.seconds)
        if self.rest_errors and not isinstance(self.rest_errors[-1], OutputUnavailable):
            raise self.rest_errors.pop()
        return self.listed

    async def save(self, instruments: Sequence[Instrument]) -> None:
        """Write it down."""
        if self.rest_errors:
            raise self.rest_errors.pop()
        self.kept.append(instruments)

    async def runs(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something holds."""
        await clocks.run_until(self.clock, self.instrument_list.run(), holds, seconds)


async def test_markets_are_read_periodically_and_on_request_but_rate_limited() -> None:
    lister = Lister()
    await lister.runs(lambda: len(lister.kept) == 2, 700)
    assert 600 <= lister.read[1] - lister.read[0] <= 601
    began = lister.clock.seconds

    def nonsense() -> bool:
        lister.instrument_list.request_reload()
        return lister.clock.seconds > began + 120

    await lister.runs(nonsense, 130)
    at = [round(one - began) for one in lister.read[2:]]
    assert at[0] == 0
    assert 5 <= len(at) <= 9, "in two minutes"
    lister.listed = InstrumentList(unreadable=frozenset({Symbol("BTC/USD")}))
    await lister.runs(
        lambda: lister.instrument_list.request_reload() and lister.instrument_list.unreadable == {"BTC/USD"}, 70
    )
    later = lister.clock.seconds
    await lister.runs(lambda: lister.instrument_list.request_reload() and lister.read[-1] > later, 5)


async def test_instrument_list_that_failed_to_read_or_write_is_retried() -> None:
    lister = Lister()
    lister.rest_errors = [OutputUnavailable("no"), VenueUnavailable("no"), TypeError("a fault of ours")]
    await lister.runs(lambda: len(lister.kept) == 1, 20)
    assert len(lister.read) == 3
    assert lister.rest_errors == []
