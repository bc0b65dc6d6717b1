"""Loads the venue's list of markets periodically, and at once when a number does not match it, and stores it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.ingest.ports import InstrumentList, OutputUnavailable, VenueUnavailable
from aether_services.ingest.service.outage_log import OutageLog

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
"""Seconds until the next requested reload is allowed; doubled each time that nothing changed."""
MAX_PAUSE: Final = 60.0


class InstrumentListReader:
    """Keeps the list as it was loaded last, and stores it.

    Args:
        venue: The venue.
        instruments: Stores the markets.
        clock: The time.
        rejections: Counts rejected entries.
    """

    def __init__(self, venue: Venue, instruments: InstrumentStore, clock: Clock, rejections: Rejections) -> None:
        self._venue, self._instruments, self._clock, self._rejections = venue, instruments, clock, rejections
        self._outage_log = OutageLog(log, down="instruments_not_stored", up="instruments_stored", clock=clock)
        self._list = InstrumentList()
        self._due = True
        self._unsaved = False
        self._pause, self._allowed = MIN_PAUSE, float("-inf")

    @property
    def unreadable(self) -> frozenset[Symbol]:
        """Markets whose entry is malformed."""
        return self._list.unreadable

    def request_reload(self) -> bool:
        """Request a reload; returns whether it is allowed now, since bad data must not cause a storm of requests."""
        self._due = self._due or self._may_reload()
        return self._due

    async def reload(self) -> bool:
        """Reload now, if it is allowed; returns whether the list changed.

        Raises:
            VenueUnavailable: The request fails.
        """
        return self._may_reload() and await self._load()

    async def run(self) -> None:
        """Load and store the list until cancelled."""
        while True:
            try:
                if self._due:
                    await self._load()
                    self._unsaved = True
                if self._unsaved:
                    await self._instruments.save(self._list.instruments)
                    self._unsaved = False
                    self._outage_log.record_success()
            except (VenueUnavailable, OutputUnavailable) as fault:
                self._outage_log.record_failure(str(fault))
                await self._clock.sleep(RETRY_INTERVAL)
            else:
                ends = self._clock.elapsed() + RELOAD_INTERVAL
                while not (self._due or self._unsaved) and self._clock.elapsed() < ends:
                    await self._clock.sleep(POLL_INTERVAL)
                self._due = self._due or not self._unsaved

    def _may_reload(self) -> bool:
        """Whether a reload is allowed; if so, the next one is delayed."""
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
