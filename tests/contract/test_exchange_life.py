"""The simulated venue as a process: what it tells is in its journal, whatever ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_testing import venues

if TYPE_CHECKING:
    from pathlib import Path


def test_a_venue_that_is_told_to_end_ends_well(tmp_path: Path) -> None:
    with venues.venue(tmp_path) as venue:
        assert venue.get("/status")["ready"]
        assert venue.end() == 0, venue.log
