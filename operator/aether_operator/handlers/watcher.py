"""Kopf, for the length of one leadership: it lists and watches, and every event becomes a key in the queue.

Each namespace has a Kopf of its own. A refusal ends a whole Kopf, and one of a namespace that is gone, or that we lost
our rights in, must not disturb the others.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import kopf

from aether_operator.api import labels
from aether_operator.api.platforms import KIND
from aether_operator.controllers import metrics
from aether_operator.controllers.workqueue import Key
from aether_operator.handlers import platforms
from aether_operator.kube import api_client, sessions
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aether_operator.controllers.platforms import Index
    from aether_operator.controllers.workqueue import Queue

log = logging.getLogger(__name__)
FIRST_BACKOFF: Final = 1.0
"""Seconds after which watching starts again when a watch ended with an error: everything is listed anew."""
MAX_BACKOFF: Final = 30.0
"""What those seconds double to at most, until everything of the namespace is watched."""
JITTER: Final = 0.2
DENIED_CODES: Final = frozenset({api_client.FORBIDDEN, *api_client.NOT_FOUND})
WATCHED: Final = (kinds.PLATFORMS, *kinds.CHILDREN, kinds.PODS)


@dataclass(slots=True)
class _Namespace:
    """How watching one namespace goes."""

    name: str
    refusal: str = ""
    """What the API server answered where it said no; kept until everything is watched again."""
    inaccessible: bool = False
    """Whether the platforms themselves may not be listed: then there is nothing to visit."""
    watched: set[str] = field(default_factory=set)
    """The paths whose watch was accepted, since Kopf began."""
    tries: int = 0
    """How often watching began since everything was watched."""
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def paths(self) -> dict[str, kinds.Kind]:
        """What is watched in it."""
        return {api_client.path(kind, self.name): kind for kind in WATCHED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What is watched for whom.

    Args:
        configuration: How to reach the API server.
        api: Asks the API server what may be listed.
        namespaces: Where.
        queue: Gets a key for every event.
        hints: Whom an object without a label concerns.
        fresh: Told of everything that is heard.
        stop: Set when the process is asked to end: Kopf takes the signals, and this takes them back.
        chance: A number from 0 to 1, anew at each call: the jitter.
        silence: Seconds after which a watch that brings nothing is begun anew, from where it stood: a bookmark comes
            every 60, so it goes to nobody any more.
        again: Seconds of the first pause.
    """

    configuration: Any
    api: api_client.Api
    namespaces: Sequence[str]
    queue: Queue
    index: Index
    freshness: sessions.Freshness
    stop: asyncio.Event
    random: Callable[[], float]
    inactivity_timeout: float
    first_backoff: float = FIRST_BACKOFF
    _known: dict[str, _Namespace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is refused before it was asked for."""
        self._known.update({name: _Namespace(name) for name in self.namespaces})

    async def watch(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._known.values():
                metrics.NAMESPACE_WATCHED.labels(one.name).set(0)
                for path in one.paths:
                    self.freshness.expect(path)
                group.create_task(self._watch(one))

    def inaccessible(self, namespace: str) -> bool:
        """Whether its platforms may not even be listed, by the last word of the API server."""
        return self._known[namespace].inaccessible

    async def check_access(self, namespace: str) -> bool:
        """Ask the API server whether everything may be listed there; a namespace that is refused is not watched.

        Raises:
            Unavailable: It did not answer.
        """
        one = self._known[namespace]
        for path, kind in one.paths.items():
            try:
                await self.api.request("GET", path, query={"limit": "1"})
            except api_client.ApiError as refused:
                if refused.code not in DENIED_CODES:
                    raise
                self._refuse(one, kind, refused.code)
                return False
            if kind is kinds.PLATFORMS:
                one.inaccessible = False
        return True

    async def _watch(self, one: _Namespace) -> None:
        """Watch a namespace until cancelled.

        A watch that ends in an error other than 410 ends Kopf; then it is begun anew, and its first list asks for a
        visit of everything there is. What the API server refuses is asked for ever more rarely, and then for one list
        at a time.
        """
        while True:
            try:
                if await self.check_access(one.name):
                    await self._run(one)
                elif not one.inaccessible:
                    await self._add_all(one)
            except Exception as broken:  # noqa: BLE001 - whatever ended Kopf, a new beginning lists everything anew
                extra = {"namespace": one.name, "cause": f"{type(broken).__name__}: {broken}"}
                log.warning("watching_again", extra=extra)
            await asyncio.sleep(self._pause(one))

    async def _add_all(self, one: _Namespace) -> None:
        """Have every platform visited, since no watch tells of them: their status then says what is refused.

        Those that wait for their next visit, which may have failed, keep their time.
        """
        found = [Key(KIND, one.name, raw["metadata"]["name"]) for raw in await self.api.list(kinds.PLATFORMS, one.name)]
        known = self.queue.keys()
        for key in found:
            if key not in known:
                self.queue.add(key)

    def _pause(self, one: _Namespace) -> float:
        """Seconds until the next try, which grow until everything is watched."""
        doubled = self.first_backoff * float(1 << min(one.tries, 8))
        one.tries += 1
        return min(MAX_BACKOFF, doubled) * (1 + JITTER * (2 * self.random() - 1))

    def _refuse(self, one: _Namespace, kind: kinds.Kind, code: int) -> None:
        """The API server said no: whoever waits for something from this namespace would wait in vain."""
        one.refused.set()
        one.inaccessible = one.inaccessible or kind is kinds.PLATFORMS
        for path, watched in one.paths.items():
            if watched is kinds.PLATFORMS:
                # It is what is asked for until all is well: no answer to that, not even a no, is silence.
                self.freshness.expect(path)
            else:
                self.freshness.forget(path)
        if not one.refusal:
            one.refusal = f"{code} for {kind.plural}"
            metrics.NAMESPACE_WATCHED.labels(one.name).set(0)
            log.warning("namespace_not_watched", extra={"namespace": one.name, "cause": one.refusal})

    def _hear(self, one: _Namespace, answer: sessions.ResponseHead) -> None:
        """An answer to Kopf."""
        kind = one.paths.get(answer.path)
        if kind is None:
            return  # discovery
        if answer.status in DENIED_CODES:
            self._refuse(one, kind, answer.status)
        elif answer.watch and answer.status == 200:  # noqa: PLR2004 - OK
            one.watched.add(answer.path)
            if len(one.watched) == len(WATCHED) and not one.refused.is_set():
                self._is_watched(one)

    def _is_watched(self, one: _Namespace) -> None:
        one.tries = 0
        metrics.NAMESPACE_WATCHED.labels(one.name).set(1)
        if one.refusal:
            one.refusal = ""
            log.info("namespace_watched", extra={"namespace": one.name})

    async def _run(self, one: _Namespace) -> None:
        """Have Kopf watch until something is refused, or it ends by itself."""
        registry = kopf.OperatorRegistry()
        one.refused.clear()
        one.watched.clear()
        for path in one.paths:
            self.freshness.expect(path)

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = sessions.watch_session(self.configuration, self.freshness, lambda answer: self._hear(one, answer))
            return kopf.AiohttpSession(server=self.configuration.host, aiohttp_session=session)

        platforms.register(registry, self.queue, self.index)
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(self.inactivity_timeout),
            standalone=True,
            namespaces=[one.name],
            memo=kopf.Memo(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        refused = asyncio.create_task(one.refused.wait())
        # Not Kopf's own way to run its tasks: that ends with every task of the loop, ours as well.
        try:
            ended, _ = await asyncio.wait((*tasks, refused), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, refused):
                task.cancel()
            await asyncio.wait((*tasks, refused))
        if one.refused.is_set():
            return
        for task in ended:
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
        raise RuntimeError("Kopf ended")


def _settings(inactivity_timeout: float) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours to say
    settings.scanning.disabled = True  # the kinds are known, and a Role in the namespaces is all we have
    settings.process.ultimate_exiting_timeout = None  # else a Kopf that ended kills the process ten minutes later
    settings.watching.server_timeout = 240
    settings.watching.inactivity_timeout = inactivity_timeout
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 0.1
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (0.5, 1, 2)
    # Users' Secrets have no label of ours, so all of the namespace are watched; of the rest only our own.
    for kind in (*kinds.CHILDREN, kinds.PODS):
        if kind is not kinds.SECRETS:
            group, _, version = kind.api_version.rpartition("/")
            settings.watching.label_selectors[group, version, kind.plural] = labels.PLATFORM
    return settings
