"""The only client of Kafka, NATS and Redis: connection checks, the owner recorded on a server, and the topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.brokers import connections, kafka_admin, nats, redis
from aether_operator.brokers.kafka_admin import ensure_topics

__all__ = ["check", "claim", "ensure_topics"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport
    from aether_operator.observed.server_owners import ServerOwner

_CHECKS: Final = {Server.KAFKA: kafka_admin.check, Server.NATS: nats.check, Server.REDIS: redis.check}


async def check(server: Server, endpoint: Endpoint, owner: ServerOwner, *, deadline: float) -> ServerReport:
    """Check a server and read its owner; writes nothing and takes at most `deadline` seconds."""
    operation = _CHECKS[server](endpoint, owner, None, deadline)
    return await connections.run_check(server, endpoint, owner, operation, deadline=deadline)


async def claim(
    server: Server, endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object], *, deadline: float
) -> ServerReport:
    """Check a server, and record `owner` on it where none is recorded. Of several concurrent claims one succeeds.

    Raises:
        Exception: What `guard` raises; it is called before every write.
    """
    operation = _CHECKS[server](endpoint, owner, guard, deadline)
    return await connections.run_check(server, endpoint, owner, operation, deadline=deadline)
