"""The venue's list of markets: read now and then, and anew at once when a number does not fit what it said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.ingest.ports import InstrumentList, OutputUnavailable, VenueUnavailable

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol
    from aether_services.ingest.core.rejections import Rejections
    from aether_services.ingest.ports import InstrumentStore, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

RELOAD_INTERVAL: Final = 600.0
RETRY_INTERVAL: Final = 5.0
POLL_INTERVAL: Final = 0.25
MIN_PAUSE: Final = 1.0
"""Seconds until it is read anew again, and twice as many each time that it says nothing new."""
MAX_PAUSE: Final = 60.0


class InstrumentListReader:
    """The list as it was read last, and who writes it down.

    Args:
        venue: Whose it is.
        instruments: Where markets are written down.
        clock: The time.
        rejections: Counts what is not taken.
    """

    def __init__(self, venue: Venue, instruments: InstrumentStore, clock: Clock, rejections: Rejections) -> None:
        self._venue, self._instruments, self._clock, self._rejections = venue, instruments, clock, rejections
        self._list = InstrumentList()
        self._due = True
        self._unsaved = False
        self._pause, self._allowed = MIN_PAUSE, float("-inf")

    @property
    def unreadable(self) -> frozenset[Symbol]:
        """Markets whose entry is not understood."""
        return self._list.unreadable

    def request_reload(self) -> bool:
        """Have it read anew; whether that is done, since nonsense must not cause a storm of questions."""
        self._due = self._due or self._may_reload()
        return self._due

    async def reload(self) -> bool:
        """Read it anew now, where that may be; whether it says anything new.

        Raises:
            VenueAway: It does not say.
        """
        return self._may_reload() and await self._load()

    async def run(self) -> None:
        """Read it and write it down, for ever."""
        while True:
            try:
                if self._due:
                    await self._load()
                    self._unsaved = True
                if self._unsaved:
                    await self._instruments.save(self._list.instruments)
                    self._unsaved = False
            except (VenueUnavailable, OutputUnavailable) as fault:
                log.warning("instruments_not_written", extra={"cause": str(fault)})
                await self._clock.sleep(RETRY_INTERVAL)
            else:
                ends = self._clock.elapsed() + RELOAD_INTERVAL
                while not (self._due or self._unsaved) and self._clock.elapsed() < ends:
                    await self._clock.sleep(POLL_INTERVAL)
                self._due = self._due or not self._unsaved

    def _may_reload(self) -> bool:
        """Whether it may be read anew; then the next time is later."""
        elapsed = self._clock.elapsed()
        if elapsed < self._allowed:
            return False
        self._allowed = elapsed + self._pause
        self._pause = min(MAX_PAUSE, 2 * self._pause)
        return True

    async def _load(self) -> bool:
        try:
            loaded = await self._venue.instruments()
        except VenueUnavailable:
            raise
        except Exception as fault:
            self._rejections.record("AssetPairs", "", fault, unexpected=True)
            raise VenueUnavailable(f"AssetPairs: {type(fault).__name__}") from fault
        new = loaded != self._list
        self._due = False
        if new:
            self._list, self._unsaved, self._pause = loaded, True, MIN_PAUSE
        return new
