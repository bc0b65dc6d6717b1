"""The connection check: can this login, on this server, carry a platform's schema?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.database import catalog_reader, connections, servers
from aether_operator.observed.reports import ServerReport

if TYPE_CHECKING:
    from aether_operator.api.platforms import Timescale
    from aether_operator.observed.endpoints import Endpoint


def check(endpoint: Endpoint, timescale: Timescale, *, deadline: float) -> ServerReport:
    """Log in and look; blocks for at most `deadline` seconds (and the time that looking up a name takes)."""
    try:
        with connections.session(endpoint, deadline=deadline) as connection:
            facts = catalog_reader.server(connection)
    except connections.ConnectionFailed as refused:
        return ServerReport(server=Server.POSTGRES, reason=refused.reason, message=refused.message)
    chosen = servers.choose(facts, timescale, database=endpoint.database)
    return ServerReport(
        server=Server.POSTGRES,
        reason=chosen.reason if isinstance(chosen, servers.Unfit) else Reason.READY,
        message=f"{connections.place(endpoint)}: {chosen.message}" if isinstance(chosen, servers.Unfit) else "",
        version=facts.version,
        timescale=facts.timescale.version,
        partman=facts.partman.version,
    )
