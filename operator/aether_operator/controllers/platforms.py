"""The visit of a TradingPlatform: look, decide, carry out, look again, and say what was seen."""

from __future__ import annotations

import asyncio
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
from aether_operator.controllers import intervals, metrics
from aether_operator.database import checks, fence, migrator
from aether_operator.kube import api_client
from aether_operator.observed import components, kinds, owners, pod_problems
from aether_operator.observed.observation import Observed
from aether_operator.observed.owners import Owner, Ownership
from aether_operator.observed.reports import DesiredSchema, SchemaReport, ServerReport, TopicsReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.controllers.operator_config import Config
    from aether_operator.controllers.workqueue import Key
    from aether_operator.kube.events import EventRecorder
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.kinds import Manifest

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

CHECK_DEADLINE: Final = 5.0
"""Seconds for a connection check."""
CLAIM_DEADLINE: Final = 15.0
"""Seconds to write down on a server whose it is."""
TOPICS_DEADLINE: Final = 15.0
"""Seconds to bring the topics to what is wanted."""
SCHEMA_DEADLINE: Final = 60.0
"""Seconds for what the schema needs in one visit; the next goes on where this one ended."""
CHECK_KEPT: Final = 30.0
"""Seconds for which a good answer of a server is believed, while nothing about it changes."""
STATUS_DEADLINE: Final = 3.0
"""Seconds for a room's /status."""


@dataclass(slots=True)
class Index:
    """What former visits saw, so that an event finds its key. Memory only: nothing is decided by it."""

    keys: defaultdict[tuple[str, str, str], set[Key]] = field(default_factory=lambda: defaultdict(set))
    """(namespace, kind, name) of a child, or of a user's Secret, → whom it concerns."""
    own_writes: dict[Key, str] = field(default_factory=dict)
    """The version of a platform that our own write of its status made: its event is no news."""

    def forget(self, key: Key) -> None:
        """It is gone."""
        self.own_writes.pop(key, None)
        for whose in self.keys.values():
            whose.discard(key)
        for what in [what for what, whose in self.keys.items() if not whose]:
            del self.keys[what]


@dataclass(frozen=True, slots=True)
class _Check:
    """A good answer, and until when it is believed."""

    endpoint: Endpoint
    owner: Owner
    report: ServerReport
    until: float


@dataclass(slots=True, kw_only=True)
class Controller:
    """Visits platforms.

    Args:
        api: The API server.
        config: The operator's.
        events: For people.
        fences: What this process remembers of the databases that it writes to.
        fresh: Makes a random word of 32 letters.
        now: The wall clock, aware.
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
    """A good answer, and until when it is believed."""
    _ownerships: dict[tuple[Key, Server], tuple[str, Owner, Ownership]] = field(default_factory=dict)
    """The last that each server said of whose it is: where it was, and who asked."""
    _made: dict[Key, dict[kinds.Ref, Manifest]] = field(default_factory=dict, repr=False)
    """What is wanted of the children that this process saw as wanted: one that differs since was changed by others."""
    _failing: set[Key] = field(default_factory=set)
    """Those whose last visit failed, which their status could not say."""
    _database: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=8, thread_name_prefix="database")
    )

    async def reconcile(self, key: Key) -> float | None:
        """One visit. Returns after how many seconds the next is due, or nothing when the platform is gone.

        Raises:
            Unavailable: The API server did not answer; nothing is half-done that the next visit does not finish.
            LeaseLost: Somebody else acts now.
        """
        raw = await self.api.get(kinds.PLATFORMS, key.namespace, key.name)
        if raw is None:
            self.forget(key)
            return None
        if "deletionTimestamp" in raw["metadata"]:
            # Its children go with it, by their owner references; to make one now would be to fight the collector.
            return await self._tell(key, raw, status.compute_terminating_status(raw, now=self.now()))
        parsed = parsing.parse(raw)
        newest, problems = (parsed, ()) if isinstance(parsed, Platform) else (None, parsed.problems)
        paused = raw.get("spec", {}).get("paused") is True
        acting = parsing.last_applied(raw) if newest is None or paused else newest
        observed = Observed(children={}) if acting is None else await self._look(key, acting)
        if acting is not None:
            owner = await self._owner(key, acting)
            observed = dataclasses.replace(observed, owners=self._known(key, acting, observed, owner))
            if not paused:
                observed = await self._carry_out(key, acting, observed, raw)
            observed = await self._ask(key, acting, observed, owner, born=parsing.created(raw), write=not paused)
            if not paused and (known := self._known(key, acting, observed, owner)) != observed.owners:
                # What waits for a server that is known by now is made in this very visit, and what must not go on ends.
                observed = await self._carry_out(key, acting, dataclasses.replace(observed, owners=known), raw)
            observed = await self._hear(key, acting, observed)
        seen = status.StatusInput(
            generation=raw["metadata"]["generation"],
            paused=paused,
            platform=acting,
            newest=newest,
            problems=problems,
            observed=dataclasses.replace(observed, paused=paused),
        )
        return await self._tell(key, raw, status.compute_status(seen, raw.get("status", {}), now=self.now()))

    # Looking.

    async def _look(self, key: Key, platform: Platform) -> Observed:
        selector = f"{labels.PLATFORM}={platform.name}"
        names, wanted = sorted(parsing.secret_names(platform.spec)), desired.child_refs(platform)
        # Before anything is read: what changes from now on is noticed.
        for which in (*wanted, *(kinds.Ref(kinds.SECRETS.kind, name) for name in names)):
            self.index.keys[key.namespace, which.kind, which.name].add(key)
        *lists, pods = await asyncio.gather(
            *(self.api.list(kind, key.namespace, selector) for kind in (*kinds.CHILDREN, kinds.PODS))
        )
        secrets = await asyncio.gather(*(self.api.get(kinds.SECRETS, key.namespace, name) for name in names))
        children = {kinds.ref(one): one for found in lists for one in found}
        # What should be there and is not in the lists may be there under our name with another's labels.
        unlisted = [one for one in wanted if one not in children]
        looked = await asyncio.gather(*(self.api.get(kinds.of_child(one), key.namespace, one.name) for one in unlisted))
        children |= {kinds.ref(one): one for one in looked if one is not None}
        return Observed(
            children=children,
            pods=tuple(pods),
            secrets={
                name: None if one is None else desired.decoded(one) for name, one in zip(names, secrets, strict=True)
            },
        )

    async def _hear(self, key: Key, platform: Platform, observed: Observed) -> Observed:
        """What Kubernetes says of what does not come about; not read where nothing is missing."""
        which = sorted(pod_problems.kinds_to_explain(platform, observed))
        try:
            said = [await self.api.list(kinds.EVENTS, key.namespace, fields=f"regarding.kind={one}") for one in which]
        except api_client.ApiError as refused:  # the Role is of an older chart: the cause is missing, and nothing else
            log.warning("events_not_read", extra={"cause": str(refused)})
            return observed
        return dataclasses.replace(observed, events=tuple(event for events in said for event in events))

    # Carrying out.

    async def _carry_out(self, key: Key, platform: Platform, observed: Observed, raw: Manifest) -> Observed:
        wanted = desired.children(platform, observed, self.config.release, self.new_password)
        plan = planning.plan(wanted, observed, platform)
        children, blockers, unmade = dict(observed.children), list(plan.blockers), set[kinds.Ref]()
        made = self._made.get(key, {})
        for action in plan.actions:
            match action:
                case planning.Apply():
                    which = kinds.ref(action.manifest)
                    if planning.required_refs(action.manifest) & unmade:
                        unmade.add(which)
                        continue  # nothing is started with credentials or settings that are not there
                    try:
                        children[which] = await self.api.apply(action.manifest, key.namespace)
                    except api_client.ApiError as refused:
                        if refused.code == api_client.CONFLICT:  # somebody else was faster: look again
                            raise api_client.Unavailable(f"{which}: {refused}") from refused
                        unmade.add(which)
                        blockers.append(
                            planning.blocker_from_error(which, refused.code, refused.message, namespace=key.namespace)
                        )
                        continue
                    log.info("applied", extra={"child": str(which), "new": action.live is None})
                    if action.manifest == made.get(which):
                        metrics.REPAIRS.labels(which.kind).inc()
                        await self._say(raw, "Repaired", f"{which} was not as it should be", action="Repair")
                case planning.SyncConfig():
                    if action.settings not in unmade:
                        await self._sync_config(key, action)
                case planning.Delete():
                    await self._delete(key, action)
                    children.pop(action.ref, None)
        unmade |= {one.ref for one in blockers}
        self._made[key] = {
            which: one for one in wanted if (which := kinds.ref(one)) in children and which not in unmade
        }
        return dataclasses.replace(observed, children=children, blockers=tuple(blockers))

    async def _sync_config(self, key: Key, action: planning.SyncConfig) -> None:
        """Have a pod's kubelet look at the new settings at once. Whoever may not be told looks within a minute."""
        notes = {labels.SETTINGS: action.digest}
        try:
            await self.api.annotate(kinds.PODS, key.namespace, action.pod, uid=action.uid, annotations=notes)
        except api_client.ApiError as refused:
            log.warning("config_sync_failed", extra={"pod": action.pod, "cause": str(refused)})
        else:
            log.info("config_sync_requested", extra={"pod": action.pod, "settings": action.digest})

    async def _delete(self, key: Key, action: planning.Delete) -> None:
        """Delete a child that is not wanted any more, after a fresh look: a list may be older than the world."""
        kind = kinds.of_child(action.ref)
        live = await self.api.get(kind, key.namespace, action.ref.name)
        if live is None or live["metadata"]["uid"] != action.uid:
            return
        meta = live["metadata"]
        try:
            await self.api.delete(kind, key.namespace, action.ref.name, uid=action.uid, version=meta["resourceVersion"])
        except api_client.ApiError as refused:
            raise api_client.Unavailable(f"{action.ref}: {refused}") from refused
        log.info("deleted", extra={"child": str(action.ref)})

    # Asking the data plane.

    async def _ask(  # noqa: PLR0913 - what a visit knows
        self, key: Key, platform: Platform, observed: Observed, owner: Owner, *, born: datetime.datetime, write: bool
    ) -> Observed:
        reports, told = await asyncio.gather(
            asyncio.gather(*(self._check(key, platform, observed, server, owner) for server in Server)),
            service_status.query(
                components.targets(platform, observed),
                namespace=key.namespace,
                deadline=STATUS_DEADLINE,
                address_template=self.config.component_address,
                hidden=desired.secret_values(platform, observed),
            ),
        )
        servers = {one.server: one for one in reports if one is not None}
        refused = any(one.ownership is Ownership.OWNED_BY_ANOTHER for one in servers.values())
        good = {server: one.ownership for server, one in servers.items() if one.ok and write}
        schema, topics = await asyncio.gather(
            self._schema(platform, observed, owner, born, may_claim=not refused)
            if Server.POSTGRES in good
            else _nothing(),
            self._ensure_topics(key, platform, observed) if good.get(Server.KAFKA) is Ownership.OURS else _nothing(),
        )
        ownerships = {server: one.ownership for server, one in servers.items()}
        ownerships[Server.POSTGRES] = schema.ownership if schema is not None else None
        for server in (Server.KAFKA, Server.NATS, Server.REDIS):
            if server in good and owners.claimable(server, ownerships):
                claimed = await self._check(key, platform, observed, server, owner, claim=True)
                if claimed is not None:
                    servers[server], ownerships[server] = claimed, claimed.ownership
                if server is Server.KAFKA and ownerships[server] is Ownership.OURS:
                    topics = await self._ensure_topics(key, platform, observed)
        for server, ownership in ownerships.items():
            if ownership is not None:
                self._ownerships[key, server] = (self._place(server, platform, observed), owner, ownership)
        return dataclasses.replace(observed, servers=servers, schema=schema, topics=topics, component_reports=told)

    def _known(self, key: Key, platform: Platform, observed: Observed, owner: Owner) -> dict[Server, Ownership]:
        """Whose the servers are that the spec names, as far as this process was ever told by them."""
        found = {}
        for server in Server:
            place, whom, ownership = self._ownerships.get((key, server), ("", owner, Ownership.UNCLAIMED))
            if place and (place, whom) == (self._place(server, platform, observed), owner):
                found[server] = ownership
        return found

    def _place(self, server: Server, platform: Platform, observed: Observed) -> str:
        """Which server the spec names; nothing where it cannot be told."""
        found = desired.endpoint(server, platform, observed)
        return "" if isinstance(found, desired.Missing) else f"{found.host}:{found.port}/{found.database}"

    async def _check(  # noqa: PLR0913 - what a visit knows
        self, key: Key, platform: Platform, observed: Observed, server: Server, owner: Owner, *, claim: bool = False
    ) -> ServerReport | None:
        """What a server says, or nothing while it cannot be asked yet; `claim` takes it, where it is nobody's."""
        if platform.spec.data_plane.of(server).mode is Mode.MANAGED and not desired.is_serving(
            server, platform, observed
        ):
            return None
        found = desired.endpoint(server, platform, observed)
        if isinstance(found, desired.Missing):
            return ServerReport(server=server, reason=found.reason, message=found.message)
        endpoint = self._reachable(server, platform, found)
        known = self._checks.get((key, server))
        if known is not None and (known.endpoint, known.owner) == (endpoint, owner) and time.monotonic() < known.until:
            return known.report
        if server is Server.POSTGRES:
            report = await self._in_database(
                lambda: checks.check(endpoint, platform.spec.data_plane.postgres.timescale, deadline=CHECK_DEADLINE)
            )
        elif claim:
            report = await brokers.claim(server, endpoint, owner, self.fences.guard, deadline=CLAIM_DEADLINE)
        else:
            report = await brokers.check(server, endpoint, owner, deadline=CHECK_DEADLINE)
        if report.ok and report.ownership is not Ownership.UNCLAIMED:
            self._checks[key, server] = _Check(endpoint, owner, report, time.monotonic() + CHECK_KEPT)
        return report

    async def _schema(
        self, platform: Platform, observed: Observed, owner: Owner, born: datetime.datetime, *, may_claim: bool
    ) -> SchemaReport | None:
        found = desired.endpoint(Server.POSTGRES, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.POSTGRES, platform, found)
        wanted = DesiredSchema(
            owner=owner.text,
            venue=owner.venue,
            created=born,
            may_claim=may_claim,
            timescale=platform.spec.data_plane.postgres.timescale,
            days=platform.spec.retention.by_table(),
            logins=desired.database_logins(platform, observed),
        )
        return await self._in_database(
            lambda: migrator.ensure_schema(endpoint, wanted, self.fences, deadline=SCHEMA_DEADLINE)
        )

    async def _ensure_topics(self, key: Key, platform: Platform, observed: Observed) -> TopicsReport | None:
        found = desired.endpoint(Server.KAFKA, platform, observed)
        if isinstance(found, desired.Missing):
            return None
        endpoint = self._reachable(Server.KAFKA, platform, found)
        of, known, until = self._topics.get(key, (None, None, 0.0))
        if of == endpoint and time.monotonic() < until:
            return known
        report = await brokers.ensure_topics(endpoint, self.fences.guard, deadline=TOPICS_DEADLINE)
        if report.ok:
            believed = dataclasses.replace(report, created=(), changed=())
            self._topics[key] = (endpoint, believed, time.monotonic() + CHECK_KEPT)
        return report

    async def _owner(self, key: Key, platform: Platform) -> Owner:
        """Who the platform is to its servers; the uid tells namespaces of one name apart, in all clusters."""
        found = await self.api.request("GET", f"/api/v1/namespaces/{key.namespace}")
        uid, venue = str(found["metadata"]["uid"]), platform.spec.venue.name.value
        return Owner(namespace=key.namespace, uid=uid, name=key.name, venue=venue)

    def _reachable(self, server: Server, platform: Platform, endpoint: Endpoint) -> Endpoint:
        if platform.spec.data_plane.of(server).mode is Mode.MANAGED and server in self.config.managed_addresses:
            host, _, port = self.config.managed_addresses[server].rpartition(":")
            return dataclasses.replace(endpoint, host=host.strip("[]"), port=int(port))
        return endpoint

    async def _in_database(self, what: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._database, what)

    # Telling.

    async def _tell(self, key: Key, raw: Manifest, wanted: dict[str, Any]) -> float | None:
        before = raw.get("status", {})
        if wanted != _ours(before):
            thing = {
                "apiVersion": raw["apiVersion"],
                "kind": raw["kind"],
                "metadata": {"name": key.name, "uid": raw["metadata"]["uid"]},
                "status": wanted,
            }
            try:
                written = await self.api.apply(thing, key.namespace, subresource="status")
            except api_client.ApiError as refused:
                if refused.code in {404, 409}:  # it has just been deleted, or is another one already
                    raise api_client.Unavailable(str(refused)) from refused
                raise
            if written["metadata"]["generation"] == raw["metadata"]["generation"]:  # else somebody edited it meanwhile
                self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._say_changes(raw, before, wanted)
        if key in self._failing:
            self._failing.discard(key)
            note = "the operator finishes its looks again, and the status is of now"
            await self._say(raw, "Reconciled", note, action="Reconcile")
        if "deletionTimestamp" in raw["metadata"]:
            return None
        return intervals.requeue_after(wanted, platforms=len(self.index.own_writes), longest=self.config.resync_seconds)

    async def report_failure(self, key: Key, cause: str) -> None:
        """Tell that a visit failed, in the status; where that cannot be written, in an event.

        Raises:
            Unavailable: The platform cannot be read.
            LeaseLost: Somebody else acts now.
        """
        raw = await self.api.get(kinds.PLATFORMS, key.namespace, key.name)
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            return
        before = raw.get("status") or {}
        told = status.compute_failed_status(raw, cause, now=self.now())
        if any(before.get(part) != one for part, one in told.items()):
            # Not an apply: that would take back all of ours that is not in it.
            meta = {one: raw["metadata"][one] for one in ("uid", "resourceVersion")}
            try:
                written = await self.api.merge_status(kinds.PLATFORMS, key.namespace, key.name, meta=meta, fields=told)
            except (api_client.ApiError, api_client.Unavailable) as refused:
                log.warning("status_refused", extra={"cause": str(refused)})
                self._failing.add(key)
                await self._say(raw, Reason.RECONCILE_FAILED, told["message"], action="Reconcile", warning=True)
                return
            self.index.own_writes[key] = written["metadata"]["resourceVersion"]
            await self._say_changes(raw, before, told)

    async def _say_changes(self, raw: Manifest, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """An event for every condition that a person wants to hear of, when it changes."""
        was = {one["type"]: one for one in before.get("conditions", [])}
        for one in after["conditions"]:
            old = was.get(one["type"])
            if one["type"] not in {ConditionType.READY, ConditionType.STALLED, ConditionType.WARNING}:
                continue
            if old is not None and (old["status"], old["reason"]) == (one["status"], one["reason"]):
                continue
            if one["status"] == "False" and (old is None or one["type"] != ConditionType.READY):
                continue
            bad = one["type"] != ConditionType.READY or one["status"] != "True"
            await self._say(raw, one["reason"], one["message"] or one["reason"], action="Judge", warning=bad)

    async def _say(self, raw: Manifest, reason: str, note: str, *, action: str, warning: bool = False) -> None:
        try:
            await self.events.emit(raw, reason, note, action=action, warning=warning)
        except (api_client.Unavailable, api_client.ApiError) as lost:
            # The status says it as well; an event is a courtesy.
            log.warning("event_not_said", extra={"reason": reason, "cause": str(lost)})

    def forget(self, key: Key) -> None:
        """It is gone, or nobody may look at it any more."""
        self.index.forget(key)
        for server in Server:
            self._checks.pop((key, server), None)
            self._ownerships.pop((key, server), None)
        self._topics.pop(key, None)
        self._made.pop(key, None)
        self._failing.discard(key)

    def close(self) -> None:
        """Let go of the threads."""
        self._database.shutdown(wait=False, cancel_futures=True)


async def _nothing() -> None:
    """What is not asked."""


def _ours(told: dict[str, Any]) -> dict[str, Any]:
    """A status without conditions that somebody else put there: they stay, and are no reason to write."""
    if "conditions" not in told:
        return told
    known = {one.value for one in ConditionType}
    return {**told, "conditions": [one for one in told["conditions"] if one["type"] in known]}
