"""The reconcile, written once for every kind: get, observe, plan, apply, act, write the status, emit events."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic

from aether_operator import planning, status
from aether_operator.api import labels, parsing
from aether_operator.api.reasons import Reason
from aether_operator.api.resources import Resource, SpecT
from aether_operator.controllers import metrics
from aether_operator.controllers.reconciler import RECHECK_PROGRESS, ObservedT
from aether_operator.controllers.resync_schedule import Resync
from aether_operator.database import fence
from aether_operator.desired import secrets
from aether_operator.kube import api_client, leader_election
from aether_operator.observed import kinds, live_objects, pod_problems
from aether_operator.observed.observation import Observed
from aether_operator.planning import child_kinds
from aether_operator.status import State, transitions
from aether_runtime import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_operator.api.definition import Definition
    from aether_operator.controllers.index import Index
    from aether_operator.controllers.reconciler import Reconciler
    from aether_operator.controllers.workqueue import Key
    from aether_operator.kube.events import EventRecorder
    from aether_operator.observed.kinds import Manifest, Ref

log = logging.getLogger(__name__)
ORPHAN: Final = "orphan"
"""The finalizer of a deletion that leaves the children: `kubectl delete --cascade=orphan`."""
UNDO_DEADLINE: Final = 60.0
"""Seconds for undoing what an object has outside of the cluster; the next reconcile tries again."""
_STATE_EVENTS: Final = {
    State.READY: (logging.INFO, "ready"),
    State.RECONCILING: (logging.INFO, "progressing"),
    State.STALLED: (logging.WARNING, "stalled"),
    State.TERMINATING: (logging.INFO, "terminating"),
}
"""State → the level and the event that its beginning is logged with."""


@dataclass(slots=True, kw_only=True)
class Engine(Generic[SpecT, ObservedT]):
    """Reconciles the objects of one kind.

    Args:
        reconciler: What differs from other kinds.
        events: Writes Kubernetes Events.
        index: Where an event finds its keys; shared by all kinds.
    """

    reconciler: Reconciler[SpecT, ObservedT]
    events: EventRecorder
    index: Index
    _applied: dict[Key, dict[Ref, Manifest]] = field(default_factory=dict, repr=False)
    """The manifests of children that were as desired after a reconcile: if one differs later, somebody changed it."""
    _failing: set[Key] = field(default_factory=set)
    """Objects whose latest failure could not be written to their status."""

    @property
    def definition(self) -> Definition:
        """The kind's row in the table of kinds."""
        return self.reconciler.definition

    @property
    def _api(self) -> api_client.Api:
        return self.reconciler.context.api

    @property
    def _own_kind(self) -> kinds.Kind:
        return kinds.of_definition(self.definition)

    async def reconcile(self, key: Key) -> float | Resync | None:
        """Reconcile an object. Returns when the next time is; None when the object does not exist.

        Raises:
            Unavailable: The API server did not answer. The next reconcile completes whatever this one began.
            LeaseLost: This process does not lead any more.
        """
        raw = await self._api.get(self._own_kind, key.namespace, key.name)
        if raw is None:
            self.forget(key)
            return None
        parsed = parsing.parse(self.definition, raw)
        newest, problems = (parsed, ()) if isinstance(parsed, Resource) else (None, parsed.problems)
        if live_objects.is_deleting(raw):
            return await self._finalize(key, raw, parsing.last_applied(self.definition, raw) or newest)
        paused = raw.get("spec", {}).get("paused") is True
        in_force = parsing.last_applied(self.definition, raw) if newest is None or paused else newest
        if in_force is None:
            observed = await self.reconciler.observe(key, None, Observed(children={}, paused=paused))
        else:
            observed = await self._observe(key, in_force, paused=paused)
            if not paused:
                if self.definition.finalizer:
                    raw = await self._set_finalizer(key, raw, present=True)
                observed = await self._apply_children(key, in_force, observed, raw)
            before, observed = observed, await self.reconciler.act(key, in_force, observed)
            if not paused and self.reconciler.changes_children(before, observed):
                observed = await self._apply_children(key, in_force, observed, raw)
            observed = await self._observe_events(key, in_force, observed)
        inputs = status.StatusInput(
            generation=raw["metadata"]["generation"],
            paused=paused,
            in_force=in_force,
            newest=newest,
            problems=problems,
            observed=observed,
            previous=raw.get("status") or {},
        )
        computed = self.reconciler.compute_status(inputs, now=self.reconciler.context.now())
        await self._write_status(key, raw, computed.status, computed.events)
        return _at_most(computed.requeue_after, self.reconciler.context.config.resync_seconds)

    # Observe.

    async def _observe(
        self, key: Key, resource: Resource[SpecT], *, paused: bool = False, deleting: bool = False
    ) -> ObservedT:
        references, child_refs = self.reconciler.references(resource), self.reconciler.child_refs(resource)
        secret_names = sorted(references.secrets)
        parents = sorted(references.parents)
        # Before anything is read, so that the event of a change from now on finds its key.
        named = [kinds.Ref(kinds.SECRETS.kind, name) for name in secret_names]
        self.index.add(key, (*child_refs, *named, *parents))
        selector = ",".join(f"{name}={value}" for name, value in labels.of_owner(resource.owner).items())
        *lists, pods = await asyncio.gather(
            *(self._api.list(kind, key.namespace, selector) for kind in (*child_kinds.KINDS, kinds.PODS))
        )
        found_secrets = await asyncio.gather(
            *(self._api.get(kinds.SECRETS, key.namespace, name) for name in secret_names)
        )
        found_parents = await asyncio.gather(
            *(self._api.get(references.parents[ref], key.namespace, ref.name) for ref in parents)
        )
        children = {kinds.ref(child): child for listed in lists for child in listed}
        # A child that is not listed may exist under its name, with other labels.
        unlisted = [ref for ref in child_refs if ref not in children]
        found = await asyncio.gather(
            *(self._api.get(child_kinds.BY_NAME[ref.kind].kind, key.namespace, ref.name) for ref in unlisted)
        )
        children |= {kinds.ref(child): child for child in found if child is not None}
        await self._check_former_owners(key, resource, children)
        objects = Observed(
            children=children,
            paused=paused,
            deleting=deleting,
            pods=tuple(pods),
            secrets={
                name: None if secret is None else secrets.decoded(secret)
                for name, secret in zip(secret_names, found_secrets, strict=True)
            },
            parents=dict(zip(parents, found_parents, strict=True)),
        )
        return await self.reconciler.observe(key, resource, objects)

    async def _check_former_owners(self, key: Key, resource: Resource[SpecT], children: Mapping[Ref, Manifest]) -> None:
        """Children of a deleted owner of the same name are adopted, unless this object is the one that was deleted."""
        if not any(live_objects.former_uids(child, resource.owner) for child in children.values()):
            return
        now = await self._api.get(self._own_kind, key.namespace, key.name)
        if now is None or now["metadata"]["uid"] != resource.uid:
            raise api_client.Unavailable(f"{key}: it was deleted while it was reconciled")

    async def _observe_events(self, key: Key, resource: Resource[SpecT], observed: ObservedT) -> ObservedT:
        """Add the events that explain missing pods and volumes; nothing is read while none is missing."""
        explained = sorted(pod_problems.kinds_to_explain(self.reconciler.child_refs(resource), observed))
        try:
            lists = [
                await self._api.list(kinds.EVENTS, key.namespace, fields=f"regarding.kind={kind}") for kind in explained
            ]
        except api_client.ApiError as error:  # the Role of an older chart: only the cause is missing in the status
            log.warning("event_list_failed", extra={"cause": str(error)})
            return observed
        return dataclasses.replace(observed, events=tuple(event for events in lists for event in events))

    # Plan and apply.

    async def _apply_children(
        self, key: Key, resource: Resource[SpecT], observed: ObservedT, raw: Manifest
    ) -> ObservedT:
        manifests = self.reconciler.children(resource, observed)
        plan = planning.plan(manifests, observed, resource.owner, self.reconciler.storage_fields)
        children, blockers, failed = dict(observed.children), list(plan.blockers), set[kinds.Ref]()
        applied_before = self._applied.get(key, {})
        for action in plan.actions:
            match action:
                case planning.Apply():
                    ref = kinds.ref(action.manifest)
                    if planning.required_refs(action.manifest) & failed:
                        failed.add(ref)
                        continue  # no workload starts without its credentials or settings
                    try:
                        children[ref] = await self._apply(key, ref, action)
                    except api_client.ApiError as error:
                        if error.code == api_client.CONFLICT:  # it changed meanwhile: observe again
                            raise api_client.Unavailable(f"{ref}: {error}") from error
                        failed.add(ref)
                        blockers.append(
                            planning.blocker_from_error(ref, error.code, error.message, namespace=key.namespace)
                        )
                        continue
                    log.info("applied", extra={"child": str(ref), "new": action.live is None})
                    if action.manifest == applied_before.get(ref):
                        metrics.REPAIRS.labels(ref.kind).inc()
                        note = f"{ref} was changed or deleted, and is applied again"
                        await self._emit(raw, "Repaired", note, action="Repair")
                case planning.SyncConfig():
                    if action.settings not in failed:
                        await self._sync_config(key, action)
                case planning.Delete():
                    await self._delete(key, action)
                    children.pop(action.ref, None)
        failed |= {blocker.ref for blocker in blockers}
        self._applied[key] = {
            ref: manifest for manifest in manifests if (ref := kinds.ref(manifest)) in children and ref not in failed
        }
        return dataclasses.replace(observed, children=children, blockers=tuple(blockers))

    async def _apply(self, key: Key, ref: Ref, action: planning.Apply) -> Manifest:
        """Apply a child.

        Raises:
            Unavailable: It did not exist, and another owner of the same name has created it meanwhile.
        """
        kind = child_kinds.BY_NAME[ref.kind].kind
        if action.live is not None:
            return await self._api.apply(kind, action.manifest, key.namespace)
        async with self.index.creation(key.namespace, ref):
            # An owner is in the index before it observes: whoever is not there yet will find the child.
            others = self.index.keys_of(key.namespace, ref) - {key}
            if others and await self._api.get(kind, key.namespace, ref.name) is not None:
                raise api_client.Unavailable(f"{ref}: another owner has created it")
            return await self._api.apply(kind, action.manifest, key.namespace)

    async def _sync_config(self, key: Key, action: planning.SyncConfig) -> None:
        """Have the kubelet update a pod's ConfigMap files at once. If that fails, it does so within a minute."""
        annotations = {labels.SETTINGS: action.digest}
        try:
            await self._api.annotate(kinds.PODS, key.namespace, action.pod, uid=action.uid, annotations=annotations)
        except api_client.ApiError as error:
            log.info("config_sync_failed", extra={"pod": action.pod, "cause": str(error)})
        else:
            log.info("config_sync_requested", extra={"pod": action.pod, "settings": action.digest})

    async def _delete(self, key: Key, action: planning.Delete) -> None:
        """Delete a child that is not desired any more, after a fresh read: the list may be outdated."""
        kind = child_kinds.BY_NAME[action.ref.kind].kind
        live = await self._api.get(kind, key.namespace, action.ref.name)
        if live is None or live["metadata"]["uid"] != action.uid:
            return
        meta = live["metadata"]
        try:
            await self._api.delete(
                kind, key.namespace, action.ref.name, uid=action.uid, version=meta["resourceVersion"]
            )
        except api_client.ApiError as error:
            raise api_client.Unavailable(f"{action.ref}: {error}") from error
        log.info("deleted", extra={"child": str(action.ref)})

    # Deletion.

    async def _finalize(self, key: Key, raw: Manifest, resource: Resource[SpecT] | None) -> float | None:
        """Undo what an object has outside of the cluster, and release it.

        Without our finalizer there is nothing to undo: the garbage collector deletes the children by their owner
        references, and none is applied again.
        """
        finalizers = raw["metadata"].get("finalizers", ())
        if labels.FINALIZER not in finalizers:
            try:
                await self._write_terminating(key, raw, self.definition.terminating)
            except api_client.ApiError as error:
                if error.code != api_client.FORBIDDEN or not self.definition.finalizer:
                    raise  # else its namespace is being deleted, and somebody else's finalizer holds it
            return None
        if ORPHAN in finalizers:
            return RECHECK_PROGRESS  # the garbage collector has yet to take the children from their owner
        if resource is None:
            left = "its spec is invalid, so that what to undo is not known"
        else:
            left = await self._undo(key, raw, resource)
        if left and not await self._namespace_is_deleting(key, raw):
            await self._write_terminating(key, raw, f"{self.definition.terminating}: {left}")
            return RECHECK_PROGRESS
        await self._set_finalizer(key, raw, present=False)
        log.info("released", extra={"left": left})
        return None

    async def _undo(self, key: Key, raw: Manifest, resource: Resource[SpecT]) -> str:
        """Returns what is left. In a namespace that is being deleted, a failure is left too: it holds nothing."""
        try:
            observed = await self._observe(key, resource, deleting=True)
            observed = await self._apply_children(key, resource, observed, raw)
            async with asyncio.timeout(UNDO_DEADLINE):
                return await self.reconciler.undo(key, resource, observed)
        except (leader_election.LeaseLost, fence.FencedOff, api_client.Unavailable):
            raise
        except Exception as error:
            if not await self._namespace_is_deleting(key, raw):
                raise
            if not isinstance(error, api_client.ApiError):
                log.warning("not_undone", extra={"cause": logs.summary(error)})
                return logs.summary(error)
        return await self._undo_unobserved(key, resource)

    async def _undo_unobserved(self, key: Key, resource: Resource[SpecT]) -> str:
        """One try where objects may not be read any more: the namespace is being deleted, and its Roles are gone."""
        try:
            observed = await self.reconciler.observe(key, resource, Observed(children={}, deleting=True))
            async with asyncio.timeout(UNDO_DEADLINE):
                return await self.reconciler.undo(key, resource, observed)
        except (leader_election.LeaseLost, fence.FencedOff):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not hold the namespace
            log.warning("not_undone", extra={"cause": logs.summary(error)})
            return logs.summary(error)

    async def _namespace_is_deleting(self, key: Key, raw: Manifest) -> bool:
        """Whether the whole namespace is being deleted: then nothing holds the object.

        Its RoleBindings may be deleted already, and with them the right to read the namespace. Then the chart's
        admission policy knows: it denies any change but the removal of the finalizer.
        """
        try:
            namespace = await self._api.request("GET", f"/api/v1/namespaces/{key.namespace}")
        except api_client.ApiError as error:
            if error.code != api_client.FORBIDDEN:
                raise
            return await self._api.is_held_by_policy(self._own_kind, raw)
        return live_objects.is_deleting(namespace)

    async def _set_finalizer(self, key: Key, raw: Manifest, *, present: bool) -> Manifest:
        """Add our finalizer to exactly the object that was read, or remove it."""
        before: Sequence[str] = raw["metadata"].get("finalizers", ())
        if (labels.FINALIZER in before) is present:
            return raw
        others = [one for one in before if one != labels.FINALIZER]
        fields = {"finalizers": [*others, labels.FINALIZER] if present else others}
        meta = {name: raw["metadata"][name] for name in ("uid", "resourceVersion")}
        try:
            return await self._api.merge_metadata(self._own_kind, key.namespace, key.name, {**meta, **fields})
        except api_client.ApiError as error:
            if error.code in {api_client.NOT_FOUND, api_client.CONFLICT}:  # deleted, or changed, meanwhile
                raise api_client.Unavailable(str(error)) from error
            raise

    # Status and events.

    async def _write_terminating(self, key: Key, raw: Manifest, message: str) -> None:
        now, before = self.reconciler.context.now(), raw.get("status") or {}
        computed = status.compute_terminating_status(self.definition, raw, message, now=now)
        computed = self._without_foreign_conditions(computed)
        await self._write_status(key, raw, computed, transitions.events(before, computed))

    async def _write_status(
        self, key: Key, raw: Manifest, computed: dict[str, Any], events: Sequence[transitions.StatusEvent]
    ) -> None:
        """Apply a status if it changed, and emit its events."""
        before = raw.get("status", {})
        if computed != self._without_foreign_conditions(before):
            manifest = {
                "apiVersion": raw["apiVersion"],
                "kind": raw["kind"],
                "metadata": {"name": key.name, "uid": raw["metadata"]["uid"]},
                "status": computed,
            }
            try:
                written = await self._api.apply(self._own_kind, manifest, key.namespace, subresource="status")
            except api_client.ApiError as error:
                if error.code in {api_client.NOT_FOUND, api_client.CONFLICT}:  # deleted, or created anew, meanwhile
                    raise api_client.Unavailable(str(error)) from error
                raise
            if written["metadata"]["generation"] == raw["metadata"]["generation"]:  # else the spec was edited meanwhile
                self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._report_change(raw, before, computed, events)
        if key in self._failing:
            self._failing.discard(key)
            note = "the operator can reconcile it again, and its status is current"
            await self._emit(raw, "Reconciled", note, action="Reconcile")

    def _without_foreign_conditions(self, status_: dict[str, Any]) -> dict[str, Any]:
        """A status without conditions of other controllers: they stay, and are no reason to write."""
        if "conditions" not in status_:
            return status_
        own = {type_.value for type_ in self.definition.all_conditions}
        return {**status_, "conditions": [condition for condition in status_["conditions"] if condition["type"] in own]}

    async def report_failure(self, key: Key, cause: str) -> None:
        """Report that a reconcile failed: in the status, or in an event where the status cannot be written.

        Raises:
            Unavailable: The object cannot be read.
            LeaseLost: This process does not lead any more.
        """
        raw = await self._api.get(self._own_kind, key.namespace, key.name)
        if raw is None or (live_objects.is_deleting(raw) and not self.definition.finalizer):
            return
        before = raw.get("status") or {}
        fields = status.compute_failed_status(self.definition, raw, cause, now=self.reconciler.context.now())
        if any(before.get(name) != value for name, value in fields.items()):
            # Not an apply, which would remove the other fields of the status.
            meta = {name: raw["metadata"][name] for name in ("uid", "resourceVersion")}
            try:
                written = await self._api.merge_status(
                    self._own_kind, key.namespace, key.name, meta=meta, fields=fields
                )
            except (api_client.ApiError, api_client.Unavailable) as error:
                log.warning("status_write_failed", extra={"cause": str(error)})
                self._failing.add(key)
                await self._emit(raw, Reason.RECONCILE_FAILED, fields["message"], action="Reconcile", warning=True)
                return
            self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._report_change(raw, before, fields, transitions.events(before, fields))

    async def _report_change(
        self,
        raw: Manifest,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        events: Sequence[transitions.StatusEvent],
    ) -> None:
        """Log a change of the state, and emit the events."""
        now = self.reconciler.context.now()
        change = transitions.transition(before, after, created=parsing.created(raw), now=now)
        if change is not None:
            keys = {"reason": change.reason, "cause": change.message, "seconds": change.seconds}
            log.log(*_STATE_EVENTS[change.state], extra=keys)
        for event in events:
            await self._emit(raw, event.reason, event.note, action="Reconcile", warning=event.warning)

    async def _emit(self, raw: Manifest, reason: str, note: str, *, action: str, warning: bool = False) -> None:
        try:
            await self.events.emit(raw, reason, note, action=action, warning=warning)
        except (api_client.Unavailable, api_client.ApiError) as error:
            # Not retried: the status has the same.
            log.warning("event_emit_failed", extra={"reason": reason, "cause": str(error)})

    def forget(self, key: Key) -> None:
        """Drop what is remembered of an object that was deleted, or that may not be read any more."""
        self.index.forget(key)
        self.reconciler.forget(key)
        self._applied.pop(key, None)
        self._failing.discard(key)


def _at_most(requeue: float | Resync, seconds: float) -> float | Resync:
    """The configuration's longest time without a reconcile."""
    return Resync(min(requeue.seconds, seconds)) if isinstance(requeue, Resync) else min(requeue, seconds)
