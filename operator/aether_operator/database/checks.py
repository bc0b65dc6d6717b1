"""The connection check: can this login create and maintain a schema on this server?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.database import catalog_reader, connections, servers
from aether_operator.observed.reports import ServerReport

if TYPE_CHECKING:
    from aether_operator.api.platforms import Timescale
    from aether_operator.observed.endpoints import Endpoint


def check(endpoint: Endpoint, schema: str, timescale: Timescale, *, deadline: float) -> ServerReport:
    """Log in and read what the server can do; blocks for at most `deadline` seconds and the time of a DNS lookup."""
    try:
        with connections.session(endpoint, deadline=deadline) as connection:
            facts = catalog_reader.read_server(connection, schema)
    except connections.ConnectionFailed as failure:
        return ServerReport(server=Server.POSTGRES, reason=failure.reason, message=failure.message)
    chosen = servers.choose(facts, timescale, database=endpoint.database, schema=schema)
    return ServerReport(
        server=Server.POSTGRES,
        reason=chosen.reason if isinstance(chosen, servers.Unsuitable) else Reason.READY,
        message=f"{connections.address(endpoint)}: {chosen.message}" if isinstance(chosen, servers.Unsuitable) else "",
        version=facts.version,
        timescale=facts.timescale.version,
        partman=facts.partman.version,
    )
