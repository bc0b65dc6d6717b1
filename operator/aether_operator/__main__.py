"""`python -m aether_operator`: waits for the Lease, watches and visits while it has it, and ends when it is lost."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import KIND
from aether_operator.controllers import health, logs, metrics, operator_config, platforms, worker_pool, workqueue
from aether_operator.database import fence
from aether_operator.handlers import watcher
from aether_operator.kube import api_client, events, leader_election, sessions

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger("aether_operator")
LOST: Final = 3
"""The exit code when the Lease was lost: at once, with nothing tidied, since every moment is a write too many."""
BAD_CONFIG: Final = 2


async def lead(config: operator_config.Config, pod: str, stop: asyncio.Event) -> None:
    """Stand by, lead, and end."""
    configuration = await sessions.load_configuration()
    identity = f"{pod}_{secrets.token_hex(4)}"
    unguarded = api_client.Api(configuration=configuration)
    lease = leader_election.Lease(
        api=unguarded, namespace=config.lease.namespace, name=config.lease.name, identity=identity
    )
    freshness = sessions.Freshness()
    probes = health.Health(freshness=freshness, leading=lambda: lease.held)
    async with probes.serve(config.port) as port, asyncio.TaskGroup() as group:
        log.info("standing_by", extra={"identity": identity, "port": port})
        measuring = group.create_task(probes.measure())
        if await _until(lease.acquire(), stop):
            metrics.LEADER.set(1)
            log.info("leading", extra={"identity": identity})
            api = api_client.Api(configuration=configuration, guard=lease.guard, on_write=_count)
            controller = platforms.Controller(
                api=api,
                config=config,
                events=events.EventRecorder(api=api, instance=pod),
                fences=fence.Fences(holder=identity, guard=lease.guard),
                new_password=lambda: secrets.token_urlsafe(24),
            )
            queue = workqueue.Queue(random=random.random)
            watches = watcher.Watcher(
                configuration=configuration,
                api=api,
                namespaces=config.namespaces,
                queue=queue,
                index=controller.index,
                freshness=freshness,
                stop=stop,
                random=random.random,
                inactivity_timeout=config.watch_silence_seconds,
            )
            workers = worker_pool.WorkerPool(
                queue=queue,
                controllers={KIND: controller},
                namespaces=watches,
                guard=lease.guard,
                random=random.random,
                new_id=lambda: secrets.token_hex(6),
            )
            await _until(_all(lease.renew(), workers.run(config.max_concurrent_reconciles), watches.watch()), stop)
            controller.close()
            with contextlib.suppress(api_client.Unavailable, api_client.ApiError):  # then it runs out by itself
                await lease.release()
            metrics.LEADER.set(0)
            await api.close()
        measuring.cancel()
    await unguarded.close()


def _count(verb: str, kind: str) -> None:
    metrics.WRITES.labels(verb, kind).inc()


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(_leading(work))


async def _leading(work: Coroutine[Any, Any, None]) -> None:
    """Do what only a leader may. When the Lease is lost the process ends here: nothing is waited for or tidied."""
    try:
        await work
    except* leader_election.LeaseLost as lost:
        log.error("lease_lost", extra={"cause": str(lost.exceptions[0])})  # noqa: TRY400 - the cause says it all
        sys.stderr.flush()
        os._exit(LOST)


async def _until(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Do it until it is done or we are asked to stop; returns whether it was done."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await doing
    return False


async def run(config: operator_config.Config, pod: str) -> None:
    """Run until a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await lead(config, pod, stop)


def main(arguments: list[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m aether_operator", description=__doc__)
    parser.add_argument(
        "--config",
        default=os.environ.get(operator_config.ENVIRONMENT),
        help=f"the configuration file; also {operator_config.ENVIRONMENT}",
    )
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING"))
    options = parser.parse_args(arguments)
    logs.set_up(options.log_level)
    try:
        config = operator_config.load(options.config or "")
        pod, _ = operator_config.identity(os.environ)
    except operator_config.InvalidConfig as wrong:
        for line in str(wrong).splitlines():
            log.error("wrong_config", extra={"cause": line})  # noqa: TRY400 - the line is the cause
        return BAD_CONFIG
    asyncio.run(run(config, pod))
    return 0


if __name__ == "__main__":
    sys.exit(main())
