"""The components of a platform: which exist, how they run, what they use and which condition reports them. Data only.

A component runs `python -m aether_services NAME`. What is computed for it is in its two modules, which have the name of
its service: `desired/components` (environment variables, live settings) and `status/components` (its report, and what
the status says about it). A test compares its environment variables with the settings that the service declares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aether_operator.api import platforms
from aether_operator.api.platforms import ResourceList, Resources, Server, Stored, VenueName
from aether_operator.api.reasons import ConditionType
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.catalog.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Mapping


class Component(StrEnum):
    """The components; the values are the names of their services."""

    EXCHANGE_SIM = "exchange_sim"
    INGEST = "ingest"


PORT: Final = 8000
PORT_NAME: Final = "http"
METRICS_PATH: Final = "/metrics"
DATA_PATH: Final = "/data"
CREDENTIALS_PATH: Final = "/credentials"
"""One folder per server, with the files `username`, `password`, and `ca.crt` if the Secret has a CA certificate."""
SETTINGS_PATH: Final = "/settings"
SETTINGS_KEY: Final = "live.json"
"""The key in the ConfigMap of settings that may change while a component runs."""
SETTINGS_VERSION: Final = 1
STATUS_VERSION: Final = 2
"""The version of the /status response that the operator reads."""

VENUES: Final[Mapping[VenueName, tuple[str, str]]] = {
    VenueName.KRAKEN: ("wss://ws.kraken.com/v2", "https://api.kraken.com"),
}
"""The WebSocket and REST addresses of real venues; the simulated venue is a Service of the platform."""
SIMULATED_WS_PATH: Final = "/v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentDefinition:
    """How a component runs.

    `name` is used in the names and labels of its children: a StatefulSet's name has 52 characters at most, or labels
    of its pods would be too long. `servers` are the servers that it needs, and `calls` the components that it calls,
    itself included if its replicas call each other.
    """

    component: Component
    name: str
    condition: ConditionType
    """The condition of the platform that reports it."""
    resources: Resources
    """What its pods request and may use, as far as the spec does not say."""
    servers: tuple[Server, ...] = ()
    database_user: DatabaseUser | None = None
    """The user as which it logs in to PostgreSQL, if that is one of its servers."""
    calls: tuple[Component, ...] = ()
    topics: tuple[Topic, ...] = ()
    """The Kafka topics that it writes. A topic has one component that writes it."""
    venues: tuple[VenueName, ...] = tuple(VenueName)
    """The venues whose platforms have this component."""
    calls_venue: bool = False
    """Whether it needs egress to the internet when the venue is a real one."""
    public: bool = False
    """Whether any client may read what it serves."""
    has_live_settings: bool = False
    """Whether it has settings that change while it runs."""
    grace_seconds: int = 30
    startup_seconds: int = 300
    liveness_seconds: int = 60
    """Seconds without an answer to the liveness probe after which it is restarted."""

    @property
    def has_volume(self) -> bool:
        """Whether it has a volume, whose size is in its settings."""
        return issubclass(platforms.component_models()[self.component], Stored)

    def runs_at(self, venue: VenueName) -> bool:
        """Whether platforms of this venue have the component."""
        return venue in self.venues


def _resources(cpu: str, memory: str, memory_limit: str) -> Resources:
    return Resources(requests=ResourceList(cpu=cpu, memory=memory), limits=ResourceList(memory=memory_limit))


COMPONENTS: Final[Mapping[Component, ComponentDefinition]] = {
    definition.component: definition
    for definition in (
        ComponentDefinition(
            component=Component.EXCHANGE_SIM,
            name="exchange",
            condition=ConditionType.VENUE_READY,
            resources=_resources("50m", "96Mi", "512Mi"),
            venues=(VenueName.SIMULATED,),
        ),
        ComponentDefinition(
            component=Component.INGEST,
            name="ingest",
            condition=ConditionType.INGEST_READY,
            resources=_resources("100m", "128Mi", "512Mi"),
            servers=(Server.POSTGRES, Server.KAFKA, Server.NATS),
            database_user=DatabaseUser.INGEST,
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
"""The topics of all components, which the operator creates."""


def server_variables(server: Server) -> tuple[str, ...]:
    """The environment variables by which a component connects to a server."""
    names = ("HOST", "PORT", "TLS", *(("DATABASE",) if server is Server.POSTGRES else ()), "CREDENTIALS")
    return tuple(f"AETHER_{server.upper()}_{name}" for name in names)


def address_variables(server: Server) -> tuple[str, ...]:
    """Those of a server's variables that say which server it is: host, port, database."""
    names = ("HOST", "PORT", *(("DATABASE",) if server is Server.POSTGRES else ()))
    return tuple(f"AETHER_{server.upper()}_{name}" for name in names)
