"""The venue's list of markets: read now and then, and anew at once when a number does not fit what it said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.ingest.ports import Listed, OutputAway, VenueAway

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol
    from aether_services.ingest.core.refusals import Refusals
    from aether_services.ingest.ports import Instruments, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

EVERY: Final = 600.0
RETRY: Final = 5.0
LOOK: Final = 0.25
SHORTEST_PAUSE: Final = 1.0
"""Seconds until it is read anew again, and twice as many each time that it says nothing new."""
LONGEST_PAUSE: Final = 60.0


class Listing:
    """The list as it was read last, and who writes it down.

    Args:
        venue: Whose it is.
        instruments: Where markets are written down.
        clock: The time.
        refused: Counts what is not taken.
    """

    def __init__(self, venue: Venue, instruments: Instruments, clock: Clock, refused: Refusals) -> None:
        self._venue, self._instruments, self._clock, self._refused = venue, instruments, clock, refused
        self._listed = Listed()
        self._due = True
        self._unwritten = False
        self._pause, self._allowed = SHORTEST_PAUSE, float("-inf")

    @property
    def unreadable(self) -> frozenset[Symbol]:
        """Markets whose entry is not understood."""
        return self._listed.unreadable

    def ask(self) -> bool:
        """Have it read anew; whether that is done, since nonsense must not cause a storm of questions."""
        self._due = self._due or self._may()
        return self._due

    async def anew(self) -> bool:
        """Read it anew now, where that may be; whether it says anything new.

        Raises:
            VenueAway: It does not say.
        """
        return self._may() and await self._read()

    async def run(self) -> None:
        """Read it and write it down, for ever."""
        while True:
            try:
                if self._due:
                    await self._read()
                    self._unwritten = True
                if self._unwritten:
                    await self._instruments.keep(self._listed.instruments)
                    self._unwritten = False
            except (VenueAway, OutputAway) as fault:
                log.warning("instruments_not_written", extra={"cause": str(fault)})
                await self._clock.sleep(RETRY)
            else:
                ends = self._clock.elapsed() + EVERY
                while not (self._due or self._unwritten) and self._clock.elapsed() < ends:
                    await self._clock.sleep(LOOK)
                self._due = self._due or not self._unwritten

    def _may(self) -> bool:
        """Whether it may be read anew; then the next time is later."""
        elapsed = self._clock.elapsed()
        if elapsed < self._allowed:
            return False
        self._allowed = elapsed + self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        return True

    async def _read(self) -> bool:
        try:
            listed = await self._venue.instruments()
        except VenueAway:
            raise
        except Exception as fault:
            self._refused.note("AssetPairs", "", fault, unexpected=True)
            raise VenueAway(f"AssetPairs: {type(fault).__name__}") from fault
        new = listed != self._listed
        self._due = False
        if new:
            self._listed, self._unwritten, self._pause = listed, True, SHORTEST_PAUSE
        return new
