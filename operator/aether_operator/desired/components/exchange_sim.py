"""The simulated venue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import ExchangeSim
from aether_operator.catalog import components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform


def environment(platform: Platform) -> Mapping[str, str]:
    """Its journal, and how it generates the market."""
    simulated = platform.spec.components.exchange_sim or ExchangeSim()
    return {
        "AETHER_JOURNAL": f"{components.DATA_PATH}/journal.sqlite",
        "AETHER_FEED": platform.spec.venue.effective_feed.value,
        "AETHER_SPEED": str(simulated.speed),
    }
