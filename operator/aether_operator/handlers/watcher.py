"""Watches through Kopf while this process leads: every event becomes a key in the queue.

Each namespace has its own Kopf operator. A denied request ends a whole Kopf operator, and a namespace that was deleted,
or in which the operator lost its rights, must not disturb the others.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import kopf

from aether_operator.api import labels
from aether_operator.controllers import metrics
from aether_operator.controllers.workqueue import Key
from aether_operator.handlers import events
from aether_operator.kube import api_client, sessions
from aether_operator.observed import kinds, live_objects
from aether_operator.planning import child_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aether_operator.controllers.index import Index
    from aether_operator.controllers.workqueue import Queue

log = logging.getLogger(__name__)
FIRST_BACKOFF: Final = 1.0
"""Seconds until Kopf starts again after it ended with an error."""
MAX_BACKOFF: Final = 30.0
"""Seconds at most: each further start doubles them, until everything in the namespace is watched."""
JITTER: Final = 0.2
DENIED_CODES: Final = frozenset({api_client.FORBIDDEN, api_client.NOT_FOUND})


def watched(own: tuple[kinds.Kind, ...]) -> tuple[kinds.Kind, ...]:
    """The kinds that are watched where these are reconciled."""
    return (*own, *child_kinds.KINDS, kinds.PODS)


@dataclass(slots=True)
class _NamespaceWatch:
    """The state of watching one namespace."""

    name: str
    own: tuple[kinds.Kind, ...]
    """The kinds that are reconciled."""
    denial: str = ""
    """The code and resource of the first denied request; kept until everything is watched again."""
    inaccessible: set[str] = field(default_factory=set)
    """Those of our own kinds that even listing is denied for: no object of theirs is reconciled. A kind with a
    finalizer may be listed longer than the others, so that its objects in a namespace that is being deleted can go."""
    watched: set[str] = field(default_factory=set)
    """The paths whose watch was accepted since Kopf started."""
    starts: int = 0
    """How often Kopf started since everything was watched."""
    denied: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def paths(self) -> dict[str, kinds.Kind]:
        """The watched resources, by URL path."""
        return {api_client.path(kind, self.name): kind for kind in watched(self.own)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Watches the operator's namespaces.

    Args:
        configuration: The API server's address and the credentials, for Kopf.
        api: Checks what may be listed.
        namespaces: The namespaces to watch.
        own: The kinds that are reconciled.
        queue: Gets a key for every event.
        index: Finds the owners of an object without their labels.
        freshness: Records what the watches receive.
        stop: Set by SIGTERM and SIGINT. Kopf takes over the signal handlers when it starts, so they are set again.
        random: Returns a new number from 0 to 1 at each call, for jitter.
        inactivity_timeout: Seconds without data after which a watch is opened anew from the last resourceVersion: a
            bookmark comes every 60, so its connection is dead.
        first_backoff: Seconds before the first restart.
    """

    configuration: Any
    api: api_client.Api
    namespaces: Sequence[str]
    own: tuple[kinds.Kind, ...]
    queue: Queue
    index: Index
    freshness: sessions.Freshness
    stop: asyncio.Event
    random: Callable[[], float]
    inactivity_timeout: float
    first_backoff: float = FIRST_BACKOFF
    _states: dict[str, _NamespaceWatch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Until the API server has answered, no namespace counts as inaccessible."""
        self._states.update({name: _NamespaceWatch(name, self.own) for name in self.namespaces})

    async def watch(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for state in self._states.values():
                metrics.NAMESPACE_WATCHED.labels(state.name).set(0)
                for path in state.paths:
                    self.freshness.expect(path)
                group.create_task(self._watch(state))

    def inaccessible(self, namespace: str, kind: str) -> bool:
        """Whether even listing its objects of one of our kinds is denied, by the API server's latest response."""
        return kind in self._states[namespace].inaccessible

    async def check_access(self, namespace: str) -> bool:
        """Query whether everything in a namespace may be listed; one where something is denied is not watched.

        Raises:
            Unavailable: The API server did not answer.
        """
        state, denied = self._states[namespace], False
        for path, kind in state.paths.items():
            if denied and kind not in state.own:
                break  # of the other kinds, one that is denied is enough to know
            try:
                await self.api.request("GET", path, query={"limit": "1"})
            except api_client.ApiError as error:
                if error.code not in DENIED_CODES:
                    raise
                self._deny(state, kind, error.code)
                denied = True
            else:
                state.inaccessible.discard(kind.kind)
        return not denied

    async def _watch(self, state: _NamespaceWatch) -> None:
        """Watch a namespace until cancelled.

        A watch that ends in an error other than 410 ends Kopf. It is started again with backoff, and its first list
        adds every object to the queue. While access is denied, each attempt is one list request.
        """
        while True:
            try:
                if await self.check_access(state.name):
                    await self._run(state)
                else:
                    await self._enqueue_all(state)
            except Exception as error:  # noqa: BLE001 - whatever ended Kopf, a restart lists everything anew
                extra = {"namespace": state.name, "cause": f"{type(error).__name__}: {error}"}
                log.warning("watch_restarted", extra=extra)
            await asyncio.sleep(self._backoff(state))

    async def _enqueue_all(self, state: _NamespaceWatch) -> None:
        """Add every accessible object to the queue, since none is watched: its reconcile reports what is denied.

        Those that are in the queue already keep their time, which may be a backoff; but a deletion, whose event nobody
        received, does not wait.
        """
        known = self.queue.keys()
        for kind in [one for one in state.own if one.kind not in state.inaccessible]:
            for raw in await self.api.list(kind, state.name):
                key = Key(kind.kind, state.name, raw["metadata"]["name"])
                if key not in known or live_objects.is_deleting(raw):
                    self.queue.add(key)

    def _backoff(self, state: _NamespaceWatch) -> float:
        """Seconds until the next start, which grow until everything is watched."""
        doubled = self.first_backoff * float(1 << min(state.starts, 8))
        state.starts += 1
        return min(MAX_BACKOFF, doubled) * (1 + JITTER * (2 * self.random() - 1))

    def _deny(self, state: _NamespaceWatch, kind: kinds.Kind, code: int) -> None:
        """The API server denied access to a kind: stop Kopf in the namespace, and expect data only of polled paths."""
        state.denied.set()
        if kind in state.own:
            state.inaccessible.add(kind.kind)
        for path, watched in state.paths.items():
            if watched in state.own:
                # Requested until access is granted: then no response, not even a denial, means a dead connection.
                self.freshness.expect(path)
            else:
                self.freshness.forget(path)
        if not state.denial:
            state.denial = f"{code} for {kind.plural}"
            metrics.NAMESPACE_WATCHED.labels(state.name).set(0)
            log.warning("namespace_not_watched", extra={"namespace": state.name, "cause": state.denial})

    def _on_response(self, state: _NamespaceWatch, head: sessions.ResponseHead) -> None:
        """A response to Kopf."""
        kind = state.paths.get(head.path)
        if kind is None:
            return  # discovery
        if head.status in DENIED_CODES:
            self._deny(state, kind, head.status)
        elif head.watch and head.status == 200:  # noqa: PLR2004 - OK
            state.watched.add(head.path)
            if len(state.watched) == len(state.paths) and not state.denied.is_set():
                self._on_watched(state)

    def _on_watched(self, state: _NamespaceWatch) -> None:
        state.starts = 0
        metrics.NAMESPACE_WATCHED.labels(state.name).set(1)
        if state.denial:
            state.denial = ""
            log.info("namespace_watched", extra={"namespace": state.name})

    async def _run(self, state: _NamespaceWatch) -> None:
        """Run Kopf until access is denied or it ends by itself."""
        registry = kopf.OperatorRegistry()
        state.denied.clear()
        state.inaccessible.clear()  # a worker's check may have been answered by an API server that lags behind
        state.watched.clear()
        for path in state.paths:
            self.freshness.expect(path)

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = sessions.watch_session(
                self.configuration, self.freshness, lambda head: self._on_response(state, head)
            )
            return kopf.AiohttpSession(server=self.configuration.host, aiohttp_session=session)

        events.register(registry, self.own, self.queue, self.index)
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(self.inactivity_timeout),
            standalone=True,
            namespaces=[state.name],
            memo=kopf.Memo(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        denied = asyncio.create_task(state.denied.wait())
        # Not `kopf.run_tasks`, which at its end cancels every task of the loop, ours as well.
        try:
            ended, _ = await asyncio.wait((*tasks, denied), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, denied):
                task.cancel()
            await asyncio.wait((*tasks, denied))
        if state.denied.is_set():
            return
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        raise RuntimeError("Kopf ended")


def _settings(inactivity_timeout: float) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # `kube.events` writes them
    settings.scanning.disabled = True  # the kinds are known, and the operator has no cluster-wide rights
    settings.process.ultimate_exiting_timeout = None  # otherwise a Kopf that ended kills the process ten minutes later
    settings.watching.server_timeout = 240
    settings.watching.inactivity_timeout = inactivity_timeout
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 0.1
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (0.5, 1, 2)
    # Users' Secrets have no label of the operator's, so all Secrets are watched; of other kinds only the operator's.
    for kind in (*child_kinds.KINDS, kinds.PODS):
        if kind is not kinds.SECRETS:
            group, _, version = kind.api_version.rpartition("/")
            selector = f"{labels.MANAGED_BY}={labels.OPERATOR}"
            settings.watching.label_selectors[group, version, kind.plural] = selector
    return settings
