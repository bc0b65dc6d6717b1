"""TradingPlatform, as the engine reconciles it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aether_operator import desired
from aether_operator.api import platform_checks, platform_definition
from aether_operator.api.platforms import PlatformSpec, Server, component_field
from aether_operator.api.reasons import ConditionType
from aether_operator.catalog.components import COMPONENTS
from aether_operator.controllers.data_plane import DataPlane
from aether_operator.controllers.reconciler import Reconciler, References
from aether_operator.observed import child_refs
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.status import platforms as platform_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_operator.api.platforms import Platform
    from aether_operator.controllers.resync_schedule import Resync
    from aether_operator.controllers.workqueue import Key
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.observation import Observed
    from aether_operator.status import Evaluation

RECHECK_COMPONENTS: Final = 2.0
"""Seconds until components are queried again that became unhealthy a moment ago, or got a new configuration."""
RECHECK_STALLED_COMPONENTS: Final = 15.0
"""Seconds until components are queried again that are unhealthy for longer than the progress deadline."""
_COMPONENTS_NEED: Final = (
    ConditionType.POSTGRES_READY,
    ConditionType.KAFKA_READY,
    ConditionType.NATS_READY,
    ConditionType.REDIS_READY,
    ConditionType.SCHEMA_READY,
    ConditionType.TOPICS_READY,
)


@dataclass
class PlatformReconciler(Reconciler[PlatformSpec, ObservedPlatform]):
    """Servers, schema and topics are checked by `DataPlane`; everything else is pure."""

    definition: ClassVar = platform_definition.DEFINITION
    storage_fields: ClassVar = {
        **{server.value: f"spec.dataPlane.{server.value}.managed.storage" for server in Server},
        **{
            row.name: f"spec.components.{component_field(row.component)}.storage"
            for row in COMPONENTS.values()
            if row.has_volume
        },
    }
    data_plane: DataPlane = field(init=False)

    def __post_init__(self) -> None:
        """What the data plane remembers belongs to this kind."""
        self.data_plane = DataPlane(context=self.context)

    def references(self, resource: Platform) -> References:
        """The Secrets of External servers."""
        return References(secrets=platform_checks.secret_names(resource.spec))

    def child_refs(self, resource: Platform) -> Sequence[Ref]:
        """Children of its servers and components."""
        return child_refs.all_of(resource)

    async def observe(self, key: Key, resource: Platform | None, objects: Observed) -> ObservedPlatform:
        """The objects, and which servers are known to belong to the platform."""
        if resource is None:
            return ObservedPlatform.of(objects)
        return await self.data_plane.recall(key, resource, ObservedPlatform.of(objects))

    def children(self, resource: Platform, observed: ObservedPlatform) -> Sequence[Manifest]:
        """All children."""
        return desired.children(resource, observed, self.context.config.release, self.context.new_password)

    async def act(self, key: Key, resource: Platform, observed: ObservedPlatform) -> ObservedPlatform:
        """Check the servers and components; ensure schema and topics."""
        return await self.data_plane.check(key, resource, observed)

    def changes_children(self, before: ObservedPlatform, after: ObservedPlatform) -> bool:
        """What waited for the owner of a server is started now, and what must not run on is stopped."""
        return before.owners != after.owners

    def evaluate(self, inputs: platform_status.PlatformInput) -> Evaluation:
        """Servers, schema, topics, venue and ingest."""
        return platform_status.evaluate(inputs)

    def requeue_after(self, computed: Mapping[str, Any]) -> float | Resync:
        """Components are queried more often than servers: what they wait for passes sooner."""
        values = {condition["type"]: condition["status"] for condition in computed["conditions"]}
        if values[ConditionType.READY] != "True" and all(values[type_] == "True" for type_ in _COMPONENTS_NEED):
            stalled = values[ConditionType.STALLED] == "True"
            return RECHECK_STALLED_COMPONENTS if stalled else RECHECK_COMPONENTS
        return super().requeue_after(computed)

    def forget(self, key: Key) -> None:
        """Drop what was learned of its servers."""
        self.data_plane.forget(key)
