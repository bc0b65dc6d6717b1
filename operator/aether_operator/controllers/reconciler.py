"""What the engine needs of a kind. Adding one is a class that derives from `Reconciler`, and a `Definition`."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from aether_operator import status
from aether_operator.api.reasons import ConditionType
from aether_operator.api.resources import SpecT
from aether_operator.controllers.resync_schedule import Resync
from aether_operator.observed.observation import Observed
from aether_operator.status import transitions

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from aether_operator.api.definition import Definition
    from aether_operator.api.resources import Resource
    from aether_operator.controllers.operator_config import Config
    from aether_operator.controllers.workqueue import Key
    from aether_operator.database.fence import Fences
    from aether_operator.kube.api_client import Api
    from aether_operator.observed import kinds
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.status import Evaluation, StatusInput

ObservedT = TypeVar("ObservedT", bound=Observed)
RECHECK_READY: Final = 60.0
"""Seconds until a Ready object is checked again: what is outside of the cluster sends no events."""
RECHECK_PROGRESS: Final = 5.0
"""Seconds until the next check while something that sends no events may resolve itself."""
RECHECK_STALLED: Final = 60.0
"""Seconds until the next check of what only a person can repair, and may have repaired where no watch sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The objects that a spec names: their events start a reconcile of the object that names them."""

    secrets: frozenset[str] = frozenset()
    """The names of Secrets of users; their values are read."""
    parents: Mapping[Ref, kinds.Kind] = field(default_factory=dict)
    """Other custom resources of Aether's, each with its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The status of an object, when to reconcile it again without an event, and the Kubernetes Events to emit."""

    status: dict[str, Any]
    requeue_after: float | Resync
    events: Sequence[transitions.StatusEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the process gives the kinds of one lane.

    Args:
        api: The client of the API server.
        config: The operator's configuration.
        fences: What this process knows of the databases that it writes to.
        threads: Threads for calls that block.
        new_password: Makes a random text of 32 characters.
        now: The wall clock; aware.
    """

    api: Api
    config: Config
    fences: Fences
    threads: ThreadPoolExecutor
    new_password: Callable[[], str]
    now: Callable[[], datetime.datetime]


@dataclass  # without slots, which zero-argument super() in a kind does not survive
class Reconciler(abc.ABC, Generic[SpecT, ObservedT]):
    """A kind as the engine reconciles it: pure functions of values, but for `observe`, `act` and `undo`."""

    definition: ClassVar[Definition]
    storage_fields: ClassVar[Mapping[str, str]] = {}
    """Component → the field of the spec that sets its storage, for messages."""
    context: Context = field(repr=False)

    def references(self, _resource: Resource[SpecT]) -> References:
        """The Secrets and the other custom resources that the spec names."""
        return References()

    def child_refs(self, _resource: Resource[SpecT]) -> Sequence[Ref]:
        """The children that the spec asks for."""
        return ()

    @abc.abstractmethod
    async def observe(self, key: Key, resource: Resource[SpecT] | None, objects: Observed) -> ObservedT:
        """The kind's own type of observed state: `objects`, and what earlier reconciles learned."""

    def children(self, _resource: Resource[SpecT], _observed: ObservedT) -> Sequence[Manifest]:
        """The desired children; while the object is deleted (`observed.deleting`), those that undoing it needs."""
        return ()

    async def act(self, _key: Key, _resource: Resource[SpecT], observed: ObservedT) -> ObservedT:
        """Observe and change what is outside of the cluster; nothing is changed if `observed.paused`.

        Returns what was observed after that. If it changes the desired children, they are applied once more.
        """
        return observed

    def changes_children(self, _before: ObservedT, _after: ObservedT) -> bool:
        """Whether what `act` learned changes the desired children."""
        return False

    def compute_status(self, inputs: StatusInput[Resource[SpecT], ObservedT], *, now: datetime.datetime) -> Computed:
        """The status, and what follows from it. Pure; a kind overrides it where `evaluate` is not enough."""
        computed = status.compute_status(self.definition, inputs, self.evaluate(inputs), now=now)
        return Computed(
            status=computed,
            requeue_after=self.requeue_after(computed),
            events=transitions.events(inputs.previous, computed),
        )

    @abc.abstractmethod
    def evaluate(self, inputs: StatusInput[Resource[SpecT], ObservedT]) -> Evaluation:
        """What prevents the object from being Ready, and the kind's own parts of the status."""

    def requeue_after(self, computed: Mapping[str, Any]) -> float | Resync:
        """When to reconcile again without an event, by the status that was just computed."""
        values = {condition["type"]: condition["status"] for condition in computed["conditions"]}
        if values[ConditionType.READY] == "True":
            return Resync(RECHECK_READY)
        return RECHECK_STALLED if values[ConditionType.STALLED] == "True" else RECHECK_PROGRESS

    async def undo(self, _key: Key, _resource: Resource[SpecT], _observed: ObservedT) -> str:
        """Undo what the object has outside of the cluster, for a kind with a finalizer.

        Called until it returns an empty text; any other text says what is left. It may be called again after that.
        """
        return ""

    def forget(self, _key: Key) -> None:
        """Drop what is remembered of an object that was deleted, or that may not be read any more."""
