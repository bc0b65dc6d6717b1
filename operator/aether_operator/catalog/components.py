"""The rooms of a platform: which there are, how they are run, what each is told and what it writes. Data only.

A room is `python -m aether_services ROOM`. What it is told at its start are the variables of its environment; a test
holds them against the settings that the room declares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import ResourceList, Resources, Server, VenueName
from aether_operator.catalog.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Mapping


class Component(StrEnum):
    """The rooms, as their process is called."""

    EXCHANGE_SIM = "exchange_sim"
    INGEST = "ingest"


PORT: Final = 8000
PORT_NAME: Final = "http"
METRICS_PATH: Final = "/metrics"
DATA_PATH: Final = "/data"
CREDENTIALS_PATH: Final = "/credentials"
"""One folder a server, with the files `username`, `password`, and `ca.crt` where its authority is not the system's."""
SETTINGS_PATH: Final = "/settings"
SETTINGS_KEY: Final = "live.json"
"""What may change while a room runs: the file in its ConfigMap."""
SETTINGS_VERSION: Final = 1
STATUS_VERSION: Final = 1
"""The form of /status that the operator reads."""

VENUES: Final[Mapping[VenueName, tuple[str, str]]] = {
    VenueName.KRAKEN: ("wss://ws.kraken.com/v2", "https://api.kraken.com"),
}
"""A real venue's WebSocket and REST; the simulated one's are the platform's own."""
SIMULATED_WS_PATH: Final = "/v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentDefinition:
    """How a room is run.

    `name` is what its children and labels are called: a StatefulSet's name has at most 52 letters, or the labels
    of its pods would be too long. `servers` and `calls` are whom it needs, and whom of the rooms it calls, itself
    included where its replicas call each other. `variables` are those that are not a server's.
    """

    component: Component
    name: str
    resources: Resources
    variables: tuple[str, ...]
    servers: tuple[Server, ...] = ()
    calls: tuple[Component, ...] = ()
    topics: tuple[Topic, ...] = ()
    """What it writes to Kafka. A topic has one room that writes it."""
    venues: tuple[VenueName, ...] = tuple(VenueName)
    """The platforms that have this room."""
    calls_venue: bool = False
    """Whether it needs the internet where the venue is out there."""
    public: bool = False
    """Whether what it tells may be read by everybody who can reach it."""
    has_volume: bool = False
    """Whether it has a volume."""
    has_live_settings: bool = False
    """Whether it has settings that change while it runs."""
    grace_seconds: int = 30
    startup_seconds: int = 300
    liveness_seconds: int = 60
    """How long it may say nothing at all before it is started anew."""

    def runs_at(self, venue: VenueName) -> bool:
        """Whether a platform of this venue has the room."""
        return venue in self.venues


def _resources(cpu: str, memory: str, most: str) -> Resources:
    return Resources(requests=ResourceList(cpu=cpu, memory=memory), limits=ResourceList(memory=most))


_EVERY_COMPONENT: Final = ("AETHER_INSTANCE", "AETHER_RELEASE")

COMPONENTS: Final[Mapping[Component, ComponentDefinition]] = {
    definition.component: definition
    for definition in (
        ComponentDefinition(
            component=Component.EXCHANGE_SIM,
            name="exchange",
            resources=_resources("50m", "96Mi", "512Mi"),
            variables=(*_EVERY_COMPONENT, "AETHER_JOURNAL", "AETHER_FEED", "AETHER_SPEED"),
            venues=(VenueName.SIMULATED,),
            has_volume=True,
        ),
        ComponentDefinition(
            component=Component.INGEST,
            name="ingest",
            resources=_resources("100m", "128Mi", "512Mi"),
            variables=(
                *_EVERY_COMPONENT,
                *("AETHER_VENUE", "AETHER_VENUE_WS_URL", "AETHER_VENUE_REST_URL"),
                *("AETHER_LIVE_SETTINGS", "AETHER_PEER_URL"),
            ),
            servers=(Server.POSTGRES, Server.KAFKA, Server.NATS),
            calls=(Component.EXCHANGE_SIM, Component.INGEST),
            topics=(
                Topic(name="md.trades", kept_days=7),
                Topic(name="md.book", kept_days=1),
                Topic(name="md.ticker", kept_days=1),
            ),
            calls_venue=True,
            public=True,
            has_live_settings=True,
        ),
    )
}

TOPICS: Final = tuple(topic for definition in COMPONENTS.values() for topic in definition.topics)
"""All that the rooms write: what the operator makes."""


def server_variables(server: Server) -> tuple[str, ...]:
    """What a room is told about a server that it needs."""
    names = ("HOST", "PORT", "TLS", *(("DATABASE",) if server is Server.POSTGRES else ()), "CREDENTIALS")
    return tuple(f"AETHER_{server.upper()}_{name}" for name in names)


def address_variables(server: Server) -> tuple[str, ...]:
    """Those of them that say which server it is."""
    names = ("HOST", "PORT", *(("DATABASE",) if server is Server.POSTGRES else ()))
    return tuple(f"AETHER_{server.upper()}_{name}" for name in names)


def variables(component: Component) -> frozenset[str]:
    """All that a room is told."""
    definition = COMPONENTS[component]
    return frozenset(definition.variables) | {
        name for server in definition.servers for name in server_variables(server)
    }
