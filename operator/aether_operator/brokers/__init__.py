"""The only speaker to Kafka, NATS and Redis: connection checks, whose a server is, and the topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.brokers import connections, kafka_admin, nats, redis
from aether_operator.brokers.kafka_admin import ensure_topics

__all__ = ["check", "claim", "ensure_topics"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.owners import Owner
    from aether_operator.observed.reports import ServerReport

_ASK: Final = {Server.KAFKA: kafka_admin.ask, Server.NATS: nats.ask, Server.REDIS: redis.ask}


async def check(server: Server, endpoint: Endpoint, owner: Owner, *, deadline: float) -> ServerReport:
    """Ask one of the three how and whose it is, and change nothing; takes at most `deadline` seconds."""
    asking = _ASK[server](endpoint, owner, None, deadline)
    return await connections.reported(server, endpoint, owner, asking, deadline=deadline)


async def claim(
    server: Server, endpoint: Endpoint, owner: Owner, guard: Callable[[], object], *, deadline: float
) -> ServerReport:
    """The same, and write the owner down where there is none; of several at once one has it, and the others see it.

    Raises:
        Exception: Whatever the guard raises, which is asked before everything that writes.
    """
    asking = _ASK[server](endpoint, owner, guard, deadline)
    return await connections.reported(server, endpoint, owner, asking, deadline=deadline)
