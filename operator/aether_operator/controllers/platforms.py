"""Reconciles a TradingPlatform: observe, plan, apply, check the data plane, write the status."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import logging
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aether_operator import brokers, desired, planning, service_status, status
from aether_operator.api import labels, parsing
from aether_operator.api.platforms import Mode, Platform, Server
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.catalog import names
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.controllers import intervals, metrics
from aether_operator.database import checks, fence, migrator
from aether_operator.kube import api_client
from aether_operator.observed import components, kinds, pod_problems, server_owners
from aether_operator.observed.observation import Observed
from aether_operator.observed.reports import DesiredSchema, SchemaReport, ServerReport, TopicsReport
from aether_operator.observed.server_owners import Ownership, ServerOwner
from aether_operator.status import State, transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.controllers.operator_config import Config
    from aether_operator.controllers.workqueue import Key
    from aether_operator.kube.events import EventRecorder
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.kinds import Manifest

log = logging.getLogger(__name__)
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
_STATE_EVENTS: Final = {
    State.READY: (logging.INFO, "ready"),
    State.RECONCILING: (logging.INFO, "progressing"),
    State.STALLED: (logging.WARNING, "stalled"),
    State.TERMINATING: (logging.INFO, "terminating"),
}
"""State → the level and the event that its beginning is logged with."""


@dataclass(slots=True)
class Index:
    """What earlier reconciles observed, so that an event finds its keys. In memory only; nothing is decided by it."""

    keys: defaultdict[tuple[str, str, str], set[Key]] = field(default_factory=lambda: defaultdict(set))
    """The platforms of a child, or of a user's Secret, by (namespace, kind, name)."""
    own_writes: dict[Key, str] = field(default_factory=dict)
    """The resourceVersion of the operator's latest write of each platform's status: its event brings nothing new."""

    def forget(self, key: Key) -> None:
        """Drop a platform that was deleted."""
        self.own_writes.pop(key, None)
        for keys in self.keys.values():
            keys.discard(key)
        for child in [child for child, keys in self.keys.items() if not keys]:
            del self.keys[child]


@dataclass(frozen=True, slots=True)
class _Check:
    """A successful check of a server, reused until `until` of the monotonic clock."""

    endpoint: Endpoint
    owner: ServerOwner
    report: ServerReport
    until: float


@dataclass(slots=True, kw_only=True)
class Controller:
    """Reconciles TradingPlatforms.

    Args:
        api: The client of the API server.
        config: The operator's configuration.
        events: Writes Kubernetes Events.
        fences: What this process knows of the databases that it writes to.
        new_password: Makes a random text of 32 characters.
        now: The wall clock; aware.
    """

    api: api_client.Api
    config: Config
    events: EventRecorder
    fences: fence.Fences
    new_password: Callable[[], str]
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
    index: Index = field(default_factory=Index)
    _checks: dict[tuple[Key, Server], _Check] = field(default_factory=dict)
    _topics: dict[Key, tuple[Endpoint, TopicsReport, float]] = field(default_factory=dict)
    """A successful report of the topics at an endpoint, and until when it is reused."""
    _ownerships: dict[tuple[Key, Server], tuple[str, ServerOwner, Ownership]] = field(default_factory=dict)
    """The latest ownership of each server: of the server at this address, for this owner."""
    _applied: dict[Key, dict[kinds.Ref, Manifest]] = field(default_factory=dict, repr=False)
    """The manifests of children that were as desired after a reconcile: if one differs later, somebody changed it."""
    _failing: set[Key] = field(default_factory=set)
    """Platforms whose latest failure could not be written to their status."""
    _database: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=8, thread_name_prefix="database")
    )

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile a platform. Returns the seconds until the next time; None when the platform does not exist.

        Raises:
            Unavailable: The API server did not answer. The next reconcile completes whatever this one began.
            LeaseLost: This process does not lead any more.
        """
        raw = await self.api.get(kinds.PLATFORMS, key.namespace, key.name)
        if raw is None:
            self.forget(key)
            return None
        if "deletionTimestamp" in raw["metadata"]:
            # The garbage collector deletes its children by their owner references: apply none of them again.
            return await self._write_status(key, raw, status.compute_terminating_status(raw, now=self.now()))
        parsed = parsing.parse(raw)
        newest, problems = (parsed, ()) if isinstance(parsed, Platform) else (None, parsed.problems)
        paused = raw.get("spec", {}).get("paused") is True
        platform = parsing.last_applied(raw) if newest is None or paused else newest
        observed = Observed(children={}) if platform is None else await self._observe(key, platform)
        if platform is not None:
            owner = await self._owner(key, platform)
            observed = dataclasses.replace(observed, owners=self._known_ownerships(key, platform, observed, owner))
            if not paused:
                observed = await self._apply_plan(key, platform, observed, raw)
            observed = await self._check_data_plane(
                key, platform, observed, owner, created=parsing.created(raw), write=not paused
            )
            known = self._known_ownerships(key, platform, observed, owner)
            if not paused and known != observed.owners:
                # The checks learned who owns a server: start now what waited for that, and stop what must not run on.
                observed = await self._apply_plan(key, platform, dataclasses.replace(observed, owners=known), raw)
            observed = await self._observe_events(key, platform, observed)
        status_input = status.StatusInput(
            generation=raw["metadata"]["generation"],
            paused=paused,
            platform=platform,
            newest=newest,
            problems=problems,
            observed=dataclasses.replace(observed, paused=paused),
        )
        computed = status.compute_status(status_input, raw.get("status", {}), now=self.now())
        return await self._write_status(key, raw, computed)

    # Observe.

    async def _observe(self, key: Key, platform: Platform) -> Observed:
        selector = f"{labels.PLATFORM}={platform.name}"
        secret_names, child_refs = sorted(parsing.secret_names(platform.spec)), desired.child_refs(platform)
        # Before anything is read, so that the event of a change from now on finds its key.
        for ref in (*child_refs, *(kinds.Ref(kinds.SECRETS.kind, name) for name in secret_names)):
            self.index.keys[key.namespace, ref.kind, ref.name].add(key)
        *lists, pods = await asyncio.gather(
            *(self.api.list(kind, key.namespace, selector) for kind in (*kinds.CHILDREN, kinds.PODS))
        )
        secrets = await asyncio.gather(*(self.api.get(kinds.SECRETS, key.namespace, name) for name in secret_names))
        children = {kinds.ref(child): child for listed in lists for child in listed}
        # A child that is not listed may exist under its name, with other labels.
        unlisted = [ref for ref in child_refs if ref not in children]
        found = await asyncio.gather(*(self.api.get(kinds.of_child(ref), key.namespace, ref.name) for ref in unlisted))
        children |= {kinds.ref(child): child for child in found if child is not None}
        return Observed(
            children=children,
            pods=tuple(pods),
            secrets={
                name: None if secret is None else desired.decoded(secret)
                for name, secret in zip(secret_names, secrets, strict=True)
            },
        )

    async def _observe_events(self, key: Key, platform: Platform, observed: Observed) -> Observed:
        """Add the events that explain missing pods and volumes; nothing is read while none is missing."""
        explained = sorted(pod_problems.kinds_to_explain(platform, observed))
        try:
            lists = [
                await self.api.list(kinds.EVENTS, key.namespace, fields=f"regarding.kind={kind}") for kind in explained
            ]
        except api_client.ApiError as error:  # the Role of an older chart: only the cause is missing in the status
            log.warning("event_list_failed", extra={"cause": str(error)})
            return observed
        return dataclasses.replace(observed, events=tuple(event for events in lists for event in events))

    # Plan and apply.

    async def _apply_plan(self, key: Key, platform: Platform, observed: Observed, raw: Manifest) -> Observed:
        manifests = desired.children(platform, observed, self.config.release, self.new_password)
        plan = planning.plan(manifests, observed, platform)
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
                        children[ref] = await self.api.apply(action.manifest, key.namespace)
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

    async def _sync_config(self, key: Key, action: planning.SyncConfig) -> None:
        """Have the kubelet update a pod's ConfigMap files at once. If that fails, it does so within a minute."""
        annotations = {labels.SETTINGS: action.digest}
        try:
            await self.api.annotate(kinds.PODS, key.namespace, action.pod, uid=action.uid, annotations=annotations)
        except api_client.ApiError as error:
            log.info("config_sync_failed", extra={"pod": action.pod, "cause": str(error)})
        else:
            log.info("config_sync_requested", extra={"pod": action.pod, "settings": action.digest})

    async def _delete(self, key: Key, action: planning.Delete) -> None:
        """Delete a child that is not desired any more, after a fresh read: the list may be outdated."""
        kind = kinds.of_child(action.ref)
        live = await self.api.get(kind, key.namespace, action.ref.name)
        if live is None or live["metadata"]["uid"] != action.uid:
            return
        meta = live["metadata"]
        try:
            await self.api.delete(kind, key.namespace, action.ref.name, uid=action.uid, version=meta["resourceVersion"])
        except api_client.ApiError as error:
            raise api_client.Unavailable(f"{action.ref}: {error}") from error
        log.info("deleted", extra={"child": str(action.ref)})

    # Check the data plane.

    async def _check_data_plane(  # noqa: PLR0913 - what a reconcile knows
        self,
        key: Key,
        platform: Platform,
        observed: Observed,
        owner: ServerOwner,
        *,
        created: datetime.datetime,
        write: bool,
    ) -> Observed:
        """Check servers and components; with `write`, also claim servers and ensure schema and topics."""
        reports, component_reports = await asyncio.gather(
            asyncio.gather(*(self._check(key, platform, observed, server, owner) for server in Server)),
            service_status.query(
                components.targets(platform, observed),
                namespace=key.namespace,
                deadline=STATUS_DEADLINE,
                address_template=self.config.component_address,
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
        writable = {server: report.ownership for server, report in servers.items() if report.ok and write}
        schema, topics = await asyncio.gather(
            self._ensure_schema(platform, observed, owner, created, may_claim=not anothers)
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
        return dataclasses.replace(
            observed, servers=servers, schema=schema, topics=topics, component_reports=component_reports
        )

    def _known_ownerships(
        self, key: Key, platform: Platform, observed: Observed, owner: ServerOwner
    ) -> dict[Server, Ownership]:
        """The latest ownership of each server that the spec names, as far as this process has checked it."""
        found = {}
        for server in Server:
            address, checked_for, ownership = self._ownerships.get((key, server), ("", owner, Ownership.UNCLAIMED))
            if address and (address, checked_for) == (self._address(server, platform, observed), owner):
                found[server] = ownership
        return found

    def _address(self, server: Server, platform: Platform, observed: Observed) -> str:
        """The address of a server that the spec names, with its database; empty while it is not known."""
        found = desired.endpoint(server, platform, observed)
        return "" if isinstance(found, desired.Missing) else f"{found.host}:{found.port}/{found.database}"

    async def _check(  # noqa: PLR0913 - what a reconcile knows
        self,
        key: Key,
        platform: Platform,
        observed: Observed,
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
            report = await brokers.claim(server, endpoint, owner, self.fences.guard, deadline=CLAIM_DEADLINE)
        else:
            report = await brokers.check(server, endpoint, owner, deadline=CHECK_DEADLINE)
        if report.ok and report.ownership is not Ownership.UNCLAIMED:
            self._checks[key, server] = _Check(endpoint, owner, report, time.monotonic() + CHECK_TTL)
        return report

    async def _ensure_schema(
        self, platform: Platform, observed: Observed, owner: ServerOwner, created: datetime.datetime, *, may_claim: bool
    ) -> SchemaReport | None:
        found = desired.endpoint(Server.POSTGRES, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.POSTGRES, platform, found)
        schema = DesiredSchema(
            definition=PLATFORM_SCHEMA,
            owner=owner.text,
            venue=owner.venue,
            created=created,
            may_claim=may_claim,
            timescale=platform.spec.data_plane.postgres.timescale,
            days=platform.spec.retention.by_table(),
            logins=desired.database_logins(platform, observed),
        )
        return await self._in_database_thread(
            lambda: migrator.ensure_schema(endpoint, schema, self.fences, deadline=SCHEMA_DEADLINE)
        )

    async def _ensure_topics(self, key: Key, platform: Platform, observed: Observed) -> TopicsReport | None:
        found = desired.endpoint(Server.KAFKA, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.KAFKA, platform, found)
        known_endpoint, known, until = self._topics.get(key, (None, None, 0.0))
        if known_endpoint == endpoint and time.monotonic() < until:
            return known
        report = await brokers.ensure_topics(endpoint, self.fences.guard, deadline=TOPICS_DEADLINE)
        if report.ok:
            reused = dataclasses.replace(report, created=(), changed=())
            self._topics[key] = (endpoint, reused, time.monotonic() + CHECK_TTL)
        return report

    async def _owner(self, key: Key, platform: Platform) -> ServerOwner:
        """The platform as it is recorded on its servers; the namespace's uid is unique over all clusters."""
        namespace = await self.api.request("GET", f"/api/v1/namespaces/{key.namespace}")
        uid, venue = str(namespace["metadata"]["uid"]), platform.spec.venue.name.value
        return ServerOwner(namespace=key.namespace, uid=uid, name=key.name, venue=venue)

    def _reachable(self, server: Server, platform: Platform, endpoint: Endpoint) -> Endpoint:
        """The endpoint as this process reaches it: outside of the cluster, at its configured address."""
        if platform.spec.data_plane.of(server).mode is Mode.MANAGED and server in self.config.managed_addresses:
            host, _, port = self.config.managed_addresses[server].rpartition(":")
            return dataclasses.replace(endpoint, host=host.strip("[]"), port=int(port))
        return endpoint

    async def _in_database_thread(self, function: Callable[[], Result]) -> Result:
        context = contextvars.copy_context()  # the thread's log lines have the key of this reconcile
        return await asyncio.get_running_loop().run_in_executor(self._database, context.run, function)

    # Status and events.

    async def _write_status(self, key: Key, raw: Manifest, computed: dict[str, Any]) -> float | None:
        """Apply a status if it changed, and emit its events. Returns the seconds until the next reconcile."""
        before = raw.get("status", {})
        if computed != _without_foreign_conditions(before):
            manifest = {
                "apiVersion": raw["apiVersion"],
                "kind": raw["kind"],
                "metadata": {"name": key.name, "uid": raw["metadata"]["uid"]},
                "status": computed,
            }
            try:
                written = await self.api.apply(manifest, key.namespace, subresource="status")
            except api_client.ApiError as error:
                if error.code in {api_client.NOT_FOUND, api_client.CONFLICT}:  # deleted, or created anew, meanwhile
                    raise api_client.Unavailable(str(error)) from error
                raise
            if written["metadata"]["generation"] == raw["metadata"]["generation"]:  # else the spec was edited meanwhile
                self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._report_change(raw, before, computed)
        if key in self._failing:
            self._failing.discard(key)
            note = "the operator can reconcile it again, and its status is current"
            await self._emit(raw, "Reconciled", note, action="Reconcile")
        if "deletionTimestamp" in raw["metadata"]:
            return None
        return intervals.requeue_after(
            computed, platforms=len(self.index.own_writes), longest=self.config.resync_seconds
        )

    async def report_failure(self, key: Key, cause: str) -> None:
        """Report that a reconcile failed: in the status, or in an event where the status cannot be written.

        Raises:
            Unavailable: The platform cannot be read.
            LeaseLost: This process does not lead any more.
        """
        raw = await self.api.get(kinds.PLATFORMS, key.namespace, key.name)
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            return
        before = raw.get("status") or {}
        fields = status.compute_failed_status(raw, cause, now=self.now())
        if any(before.get(name) != value for name, value in fields.items()):
            # Not an apply, which would remove the other fields of the status.
            meta = {name: raw["metadata"][name] for name in ("uid", "resourceVersion")}
            try:
                written = await self.api.merge_status(
                    kinds.PLATFORMS, key.namespace, key.name, meta=meta, fields=fields
                )
            except (api_client.ApiError, api_client.Unavailable) as error:
                log.warning("status_write_failed", extra={"cause": str(error)})
                self._failing.add(key)
                await self._emit(raw, Reason.RECONCILE_FAILED, fields["message"], action="Reconcile", warning=True)
                return
            self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._report_change(raw, before, fields)

    async def _report_change(self, raw: Manifest, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Log a change of the state, and emit the events of the changed conditions."""
        change = transitions.transition(before, after, created=parsing.created(raw), now=self.now())
        if change is not None:
            keys = {"reason": change.reason, "cause": change.message, "seconds": change.seconds}
            log.log(*_STATE_EVENTS[change.state], extra=keys)
        for event in transitions.events(before, after):
            await self._emit(raw, event.reason, event.note, action="Reconcile", warning=event.warning)

    async def _emit(self, raw: Manifest, reason: str, note: str, *, action: str, warning: bool = False) -> None:
        try:
            await self.events.emit(raw, reason, note, action=action, warning=warning)
        except (api_client.Unavailable, api_client.ApiError) as error:
            # Not retried: the status has the same.
            log.warning("event_emit_failed", extra={"reason": reason, "cause": str(error)})

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a platform that was deleted, or that may not be read any more."""
        self.index.forget(key)
        for server in Server:
            self._checks.pop((key, server), None)
            self._ownerships.pop((key, server), None)
        self._topics.pop(key, None)
        self._applied.pop(key, None)
        self._failing.discard(key)

    def close(self) -> None:
        """Shut down the threads for databases, without waiting for them."""
        self._database.shutdown(wait=False, cancel_futures=True)


async def _no_report() -> None:
    """The report of what is not checked in this reconcile."""


def _without_foreign_conditions(status_: dict[str, Any]) -> dict[str, Any]:
    """A status without conditions of other controllers: they stay, and are no reason to write."""
    if "conditions" not in status_:
        return status_
    own = {type_.value for type_ in ConditionType}
    return {**status_, "conditions": [condition for condition in status_["conditions"] if condition["type"] in own]}
