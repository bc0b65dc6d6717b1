"""Kopf, for the length of one leadership: it lists and watches, and every event becomes a key in the queue."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import kopf

from aether_operator.api import labels
from aether_operator.cluster import sessions, speaking
from aether_operator.handlers import platforms
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_operator.visiting.platforms import Hints
    from aether_operator.visiting.queues import Queue

log = logging.getLogger(__name__)
AGAIN: Final = 1.0
"""Seconds after which watching starts again when a watch ended with an error: everything is listed anew."""
WATCHED: Final = (kinds.PLATFORMS, *kinds.CHILDREN, kinds.PODS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What is watched for whom.

    Args:
        configuration: How to reach the API server.
        namespaces: Where.
        queue: Gets a key for every event.
        hints: Whom an object without a label concerns.
        fresh: Told of everything that is heard.
        stop: Set when the process is asked to end: Kopf takes the signals, and this takes them back.
    """

    configuration: Any
    namespaces: Sequence[str]
    queue: Queue
    hints: Hints
    fresh: sessions.Freshness
    stop: asyncio.Event

    async def watch(self) -> None:
        """Watch until cancelled.

        A watch that ends in an error other than 410 ends Kopf; then it is begun anew, and its first list asks for a
        visit of everything there is.
        """
        for kind in WATCHED:
            for namespace in self.namespaces:
                self.fresh.expect(speaking.path(kind, namespace))
        while True:
            try:
                await self._run()
            except Exception as broken:  # noqa: BLE001 - whatever ended Kopf, a new beginning lists everything anew
                log.warning("watching_again", extra={"cause": f"{type(broken).__name__}: {broken}"})
            await asyncio.sleep(AGAIN)

    async def _run(self) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = sessions.watching(self.configuration, self.fresh)
            return kopf.AiohttpSession(server=self.configuration.host, aiohttp_session=session)

        platforms.register(registry, self.queue, self.hints)
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,
            namespaces=list(self.namespaces),
            memo=kopf.Memo(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        # Not Kopf's own way to run its tasks: that ends with every task of the loop, ours as well.
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in ended:
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
        raise RuntimeError("Kopf ended")


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours to say
    settings.scanning.disabled = True  # the kinds are known, and a Role in the namespaces is all we have
    settings.process.ultimate_exiting_timeout = None  # else a Kopf that ended kills the process ten minutes later
    settings.watching.server_timeout = 240
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
