"""Ingest: from where it receives market data, and which markets its replicas share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.catalog import components, names
from aether_operator.catalog.components import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform


def environment(platform: Platform) -> Mapping[str, str]:
    """The addresses of the venue, and of its own replicas."""
    websocket, rest = components.VENUES.get(platform.spec.venue.name) or _simulated(platform)
    peer = names.component_pod(platform, Component.INGEST, "{replica}")
    return {
        "AETHER_VENUE_WS_URL": websocket,
        "AETHER_VENUE_REST_URL": rest,
        "AETHER_PEER_URL": f"http://{peer}.{names.component_host(platform, Component.INGEST)}:{components.PORT}",
    }


def _simulated(platform: Platform) -> tuple[str, str]:
    index = f"{names.component_host(platform, Component.EXCHANGE_SIM)}:{components.PORT}"
    return f"ws://{index}{components.SIMULATED_WS_PATH}", f"http://{index}"


def live_settings(platform: Platform) -> Mapping[str, Any]:
    """The markets, and how many replicas share them."""
    return {"pairs": sorted(platform.spec.pairs), "replicas": platform.spec.components.ingest.replicas}
