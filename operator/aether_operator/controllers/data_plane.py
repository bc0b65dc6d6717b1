"""The servers and components of platforms, outside of the Kubernetes API: checks, ownership, schema and topics."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from aether_operator import brokers, desired, service_status
from aether_operator.api.platforms import Mode, Platform, Server
from aether_operator.catalog import names
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import checks, migrator
from aether_operator.observed import components, server_owners
from aether_operator.observed.reports import DesiredSchema, SchemaReport, ServerReport, TopicsReport
from aether_operator.observed.server_owners import Ownership, ServerOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.controllers.reconciler import Context
    from aether_operator.controllers.workqueue import Key
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.platforms import ObservedPlatform

Result = TypeVar("Result")

CHECK_DEADLINE: Final = 5.0
"""Seconds for a connection check."""
CLAIM_DEADLINE: Final = 15.0
"""Seconds to record the owner on a server."""
TOPICS_DEADLINE: Final = 15.0
"""Seconds to create and configure the topics."""
SCHEMA_DEADLINE: Final = 60.0
"""Seconds for the schema in one reconcile; the next continues where this one stopped."""
CHECK_TTL: Final = 30.0
"""Seconds for which a successful check is reused, while endpoint and owner stay the same."""
STATUS_DEADLINE: Final = 3.0
"""Seconds for the /status of one pod."""


@dataclass(frozen=True, slots=True)
class _Check:
    """A successful check of a server, reused until `until` of the monotonic clock."""

    endpoint: Endpoint
    owner: ServerOwner
    report: ServerReport
    until: float


@dataclass(slots=True, kw_only=True)
class DataPlane:
    """What this process knows of platforms' servers, in memory."""

    context: Context
    _checks: dict[tuple[Key, Server], _Check] = field(default_factory=dict)
    _topics: dict[Key, tuple[Endpoint, TopicsReport, float]] = field(default_factory=dict)
    """A successful report of the topics at an endpoint, and until when it is reused."""
    _ownerships: dict[tuple[Key, Server], tuple[str, ServerOwner, Ownership]] = field(default_factory=dict)
    """The latest ownership of each server: of the server at this address, for this owner."""

    async def recall(self, key: Key, platform: Platform, observed: ObservedPlatform) -> ObservedPlatform:
        """Add what earlier checks learned of the owners of the servers."""
        owner = await self._owner(key, platform)
        return dataclasses.replace(
            observed, identity=owner, owners=self._known_ownerships(key, platform, observed, owner)
        )

    async def check(self, key: Key, platform: Platform, observed: ObservedPlatform) -> ObservedPlatform:
        """Check servers and components; unless the platform is paused, also claim servers, ensure schema and topics."""
        owner = _identity(observed)
        reports, component_reports = await asyncio.gather(
            asyncio.gather(*(self._check(key, platform, observed, server, owner) for server in Server)),
            service_status.query(
                components.targets(platform, observed),
                namespace=key.namespace,
                deadline=STATUS_DEADLINE,
                address_template=self.context.config.component_address,
                hidden=desired.secret_values(platform, observed),
                addresses=[
                    names.address(one.host, one.port)
                    for server in Server
                    if not isinstance(one := desired.endpoint(server, platform, observed), desired.Missing)
                ],
            ),
        )
        servers = {report.server: report for report in reports if report is not None}
        anothers = any(report.ownership is Ownership.OWNED_BY_ANOTHER for report in servers.values())
        writable = {server: report.ownership for server, report in servers.items() if report.ok and not observed.paused}
        schema, topics = await asyncio.gather(
            self._ensure_schema(platform, observed, owner, may_claim=not anothers)
            if Server.POSTGRES in writable
            else _no_report(),
            self._ensure_topics(key, platform, observed)
            if writable.get(Server.KAFKA) is Ownership.OURS
            else _no_report(),
        )
        ownerships = {server: report.ownership for server, report in servers.items()}
        ownerships[Server.POSTGRES] = schema.ownership if schema is not None else None
        for server in (Server.KAFKA, Server.NATS, Server.REDIS):
            if server in writable and server_owners.claimable(server, ownerships):
                claimed = await self._check(key, platform, observed, server, owner, claim=True)
                if claimed is not None:
                    servers[server], ownerships[server] = claimed, claimed.ownership
                if server is Server.KAFKA and ownerships[server] is Ownership.OURS:
                    topics = await self._ensure_topics(key, platform, observed)
        for server, ownership in ownerships.items():
            if ownership is not None:
                self._ownerships[key, server] = (self._address(server, platform, observed), owner, ownership)
        checked = dataclasses.replace(
            observed, servers=servers, schema=schema, topics=topics, component_reports=component_reports
        )
        return dataclasses.replace(checked, owners=self._known_ownerships(key, platform, checked, owner))

    def _known_ownerships(
        self, key: Key, platform: Platform, observed: ObservedPlatform, owner: ServerOwner
    ) -> dict[Server, Ownership]:
        """The latest ownership of each server that the spec names, as far as this process has checked it."""
        found = {}
        for server in Server:
            address, checked_for, ownership = self._ownerships.get((key, server), ("", owner, Ownership.UNCLAIMED))
            if address and (address, checked_for) == (self._address(server, platform, observed), owner):
                found[server] = ownership
        return found

    def _address(self, server: Server, platform: Platform, observed: ObservedPlatform) -> str:
        """The address of a server that the spec names, with its database; empty while it is not known."""
        found = desired.endpoint(server, platform, observed)
        return "" if isinstance(found, desired.Missing) else f"{found.host}:{found.port}/{found.database}"

    async def _check(  # noqa: PLR0913 - what a reconcile knows
        self,
        key: Key,
        platform: Platform,
        observed: ObservedPlatform,
        server: Server,
        owner: ServerOwner,
        *,
        claim: bool = False,
    ) -> ServerReport | None:
        """Check a server; with `claim`, record `owner` on one that is unclaimed. None while a managed one starts."""
        managed = platform.spec.data_plane.of(server).mode is Mode.MANAGED
        if managed and not desired.is_serving(server, platform, observed):
            return None
        found = desired.endpoint(server, platform, observed)
        if isinstance(found, desired.Missing):
            return ServerReport(server=server, reason=found.reason, message=found.message)
        endpoint = self._reachable(server, platform, found)
        known = self._checks.get((key, server))
        if known is not None and (known.endpoint, known.owner) == (endpoint, owner) and time.monotonic() < known.until:
            return known.report
        if server is Server.POSTGRES:
            report = await self._in_database_thread(
                lambda: checks.check(
                    endpoint,
                    PLATFORM_SCHEMA.name,
                    platform.spec.data_plane.postgres.timescale,
                    deadline=CHECK_DEADLINE,
                )
            )
        elif claim:
            report = await brokers.claim(server, endpoint, owner, self.context.fences.guard, deadline=CLAIM_DEADLINE)
        else:
            report = await brokers.check(server, endpoint, owner, deadline=CHECK_DEADLINE)
        if report.ok and report.ownership is not Ownership.UNCLAIMED:
            self._checks[key, server] = _Check(endpoint, owner, report, time.monotonic() + CHECK_TTL)
        return report

    async def _ensure_schema(
        self,
        platform: Platform,
        observed: ObservedPlatform,
        owner: ServerOwner,
        *,
        may_claim: bool,
    ) -> SchemaReport | None:
        found = desired.endpoint(Server.POSTGRES, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.POSTGRES, platform, found)
        schema = DesiredSchema(
            definition=PLATFORM_SCHEMA,
            owner=owner.text,
            venue=owner.venue,
            created=platform.created,
            may_claim=may_claim,
            timescale=platform.spec.data_plane.postgres.timescale,
            days=platform.spec.retention.by_table(),
            logins=desired.database_logins(platform, observed),
        )
        return await self._in_database_thread(
            lambda: migrator.ensure_schema(endpoint, schema, self.context.fences, deadline=SCHEMA_DEADLINE)
        )

    async def _ensure_topics(self, key: Key, platform: Platform, observed: ObservedPlatform) -> TopicsReport | None:
        found = desired.endpoint(Server.KAFKA, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.KAFKA, platform, found)
        known_endpoint, known, until = self._topics.get(key, (None, None, 0.0))
        if known_endpoint == endpoint and time.monotonic() < until:
            return known
        report = await brokers.ensure_topics(endpoint, self.context.fences.guard, deadline=TOPICS_DEADLINE)
        if report.ok:
            reused = dataclasses.replace(report, created=(), changed=())
            self._topics[key] = (endpoint, reused, time.monotonic() + CHECK_TTL)
        return report

    async def _owner(self, key: Key, platform: Platform) -> ServerOwner:
        """The platform as it is recorded on its servers; the namespace's uid is unique over all clusters."""
        namespace = await self.context.api.request("GET", f"/api/v1/namespaces/{key.namespace}")
        uid, venue = str(namespace["metadata"]["uid"]), platform.spec.venue.name.value
        return ServerOwner(namespace=key.namespace, uid=uid, name=key.name, venue=venue)

    def _reachable(self, server: Server, platform: Platform, endpoint: Endpoint) -> Endpoint:
        """The endpoint as this process reaches it: outside of the cluster, at its configured address."""
        if platform.spec.data_plane.of(server).mode is Mode.MANAGED and server in self.context.config.managed_addresses:
            host, _, port = self.context.config.managed_addresses[server].rpartition(":")
            return dataclasses.replace(endpoint, host=host.strip("[]"), port=int(port))
        return endpoint

    async def _in_database_thread(self, function: Callable[[], Result]) -> Result:
        context = contextvars.copy_context()  # the thread's log lines have the key of this reconcile
        return await asyncio.get_running_loop().run_in_executor(self.context.threads, context.run, function)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a platform."""
        for server in Server:
            self._checks.pop((key, server), None)
            self._ownerships.pop((key, server), None)
        self._topics.pop(key, None)


def _identity(observed: ObservedPlatform) -> ServerOwner:
    if observed.identity is None:
        raise TypeError("a platform without a spec in force has no servers")
    return observed.identity


async def _no_report() -> None:
    """The report of what is not checked in this reconcile."""
