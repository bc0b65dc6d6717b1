"""The only speaker to Kafka, NATS and Redis: connection checks, which change nothing over there, and the topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.brokers import kafka, nats, redis
from aether_operator.brokers.administering import bring_up as set_topics_up

__all__ = ["check", "set_topics_up"]

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport


async def check(server: Server, endpoint: Endpoint, *, deadline: float) -> ServerReport:
    """Ask one of the three; takes at most `deadline` seconds."""
    checks = {Server.KAFKA: kafka.check, Server.NATS: nats.check, Server.REDIS: redis.check}
    return await checks[server](endpoint, deadline=deadline)
