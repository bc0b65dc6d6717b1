"""The servers of a data plane as the operator runs them: the contract of their images, resources, probes. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import ResourceList, Resources, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

USER: Final = 65532
"""The user and group id of every image, which owns its volume."""
READY: Final = ("ready",)
"""The command in an image that exits with 0 when the server answers with the given credentials."""
USERNAME: Final = "aether"
DATABASE: Final = "aether"

DATA_PATH: Final = "/data"
CREDENTIALS_PATH: Final = "/credentials"
SCRATCH_PATH: Final = "/tmp"  # noqa: S108 - a mount of the pod's own, not the machine's
HOST_VARIABLE: Final = "AETHER_HOST"
"""The environment variable with the host name that clients use."""

STARTUP_SECONDS: Final = 24 * 3600
"""How long a server may take to recover: killing it earlier would only start the recovery again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDefinition:
    """How a server runs.

    `has_liveness_probe` is for servers that recover only while they start: if they stop answering later, they hang.
    PostgreSQL also recovers later, after one of its processes was killed, and must not be restarted meanwhile.
    """

    server: Server
    port: int
    port_name: str
    resources: Resources
    grace_seconds: int = 30
    probe_seconds: int = 5
    has_liveness_probe: bool = True

    @property
    def container(self) -> str:
        """The name of its container."""
        return self.server.value


def _resources(cpu: str, memory: str, memory_limit: str) -> Resources:
    return Resources(requests=ResourceList(cpu=cpu, memory=memory), limits=ResourceList(memory=memory_limit))


SERVERS: Final[Mapping[Server, ServerDefinition]] = {
    definition.server: definition
    for definition in (
        ServerDefinition(
            server=Server.POSTGRES,
            port=5432,
            port_name="postgres",
            resources=_resources("100m", "256Mi", "1Gi"),
            grace_seconds=60,
            has_liveness_probe=False,
        ),
        ServerDefinition(
            server=Server.KAFKA,
            port=9092,
            port_name="kafka",
            resources=_resources("100m", "512Mi", "1536Mi"),
            grace_seconds=60,
            probe_seconds=10,
        ),
        ServerDefinition(server=Server.NATS, port=4222, port_name="nats", resources=_resources("50m", "64Mi", "512Mi")),
        ServerDefinition(
            server=Server.REDIS, port=6379, port_name="redis", resources=_resources("50m", "64Mi", "512Mi")
        ),
    )
}
