"""What a TradingPlatform's spec implies beyond the defaults of its model."""

from __future__ import annotations

from aether_operator.api.platforms import ExchangeSim, Managed, Mode, PlatformSpec, Server, VenueName


def resolved(spec: PlatformSpec) -> PlatformSpec:
    """A spec with its implied defaults filled in."""
    plane = spec.data_plane
    filled = {}
    for server in Server:
        part = plane.of(server)
        if part.mode is Mode.MANAGED and part.managed is None:
            filled[server.value] = part.model_copy(update={"managed": Managed()})
    components = spec.components
    if spec.venue.name is VenueName.SIMULATED and components.exchange_sim is None:
        components = components.model_copy(update={"exchange_sim": ExchangeSim()})
    venue = spec.venue.model_copy(update={"feed": spec.venue.effective_feed})
    return spec.model_copy(
        update={"data_plane": plane.model_copy(update=filled), "components": components, "venue": venue}
    )
