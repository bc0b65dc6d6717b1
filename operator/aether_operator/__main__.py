"""`python -m aether_operator`: waits for the Lease, reconciles while it holds it, and exits when it loses it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import logging
import os
import random
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from aether_operator.controllers import health, lanes, metrics, operator_config, worker_pool, workqueue
from aether_operator.controllers.engine import Engine
from aether_operator.controllers.index import Index
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.controllers.reconciler import Context, Reconciler
from aether_operator.controllers.workqueue import Lane
from aether_operator.database import fence
from aether_operator.handlers import watcher
from aether_operator.kube import api_client, leader_election, sessions
from aether_operator.observed import kinds
from aether_runtime import logs

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

log = logging.getLogger("aether_operator")
RECONCILERS: Final[tuple[type[Reconciler[Any, Any]], ...]] = (PlatformReconciler,)
"""How the operator reconciles its kinds, one each."""
EXIT_INVALID_CONFIG: Final = 2
EXIT_LEASE_LOST: Final = 3
"""At once and without cleaning up: another replica may lead already, and must not meet a write of this one."""


async def serve(
    config: operator_config.Config, pod: str, stop: asyncio.Event, reconcilers: Sequence[type[Reconciler[Any, Any]]]
) -> None:
    """Serve the probes, wait for the Lease, lead while it is held, and release it when `stop` is set."""
    configuration = await sessions.load_configuration()
    identity = f"{pod}_{secrets.token_hex(4)}"
    lease_api = api_client.Api(configuration=configuration)
    lease = leader_election.Lease(
        api=lease_api, namespace=config.lease.namespace, name=config.lease.name, identity=identity
    )
    freshness = sessions.Freshness()
    probes = health.Health(freshness=freshness, leading=lambda: lease.held)
    async with probes.serve(config.port) as port, asyncio.TaskGroup() as group:
        log.info("standing_by", extra={"identity": identity, "port": port})
        measurement = group.create_task(probes.measure())
        if await _until(lease.acquire(), stop):
            metrics.LEADER.set(1)
            log.info("leading", extra={"identity": identity})
            resources = {
                lane: lanes.create(
                    lane, configuration=configuration, guard=lease.guard, on_write=_count_write, instance=pod
                )
                for lane in Lane
            }
            index = Index()
            fences = fence.Fences(holder=identity, guard=lease.guard)
            engines = {
                one.definition.kind: _engine(one, resources[Lane.of(one.definition)], index, config, fences)
                for one in reconcilers
            }
            lane_of = {one.definition.kind: Lane.of(one.definition) for one in reconcilers}
            queue = workqueue.Queue(random=random.random, lanes=lane_of)
            watcher_api = api_client.Api(configuration=configuration)  # it only reads, for the workers of both lanes
            object_watcher = watcher.Watcher(
                configuration=configuration,
                api=watcher_api,
                namespaces=config.namespaces,
                own=tuple(kinds.of_definition(one.definition) for one in reconcilers),
                queue=queue,
                index=index,
                freshness=freshness,
                stop=stop,
                random=random.random,
                inactivity_timeout=config.watch_silence_seconds,
            )
            workers = worker_pool.WorkerPool(
                queue=queue,
                controllers=engines,
                namespaces=object_watcher,
                guard=lease.guard,
                random=random.random,
                new_id=lambda: secrets.token_hex(6),
            )
            await _until(
                _lead(lease.renew(), workers.run(config.max_concurrent_reconciles), object_watcher.watch()), stop
            )
            for one in resources.values():
                await one.close()
            with contextlib.suppress(api_client.Unavailable, api_client.ApiError):  # then it expires
                await lease.release()
            metrics.LEADER.set(0)
            await watcher_api.close()
        measurement.cancel()
    await lease_api.close()


def _engine(
    reconciler: type[Reconciler[Any, Any]],
    lane: lanes.LaneResources,
    index: Index,
    config: operator_config.Config,
    fences: fence.Fences,
) -> Engine[Any, Any]:
    """The engine of a kind, with what its lane has of its own."""
    context = Context(
        api=lane.api,
        config=config,
        fences=fences,
        threads=lane.threads,
        new_password=lambda: secrets.token_urlsafe(24),
        now=lambda: datetime.datetime.now(datetime.UTC),
    )
    return Engine(reconciler=reconciler(context), events=lane.events, index=index)


def _count_write(verb: str, kind: str) -> None:
    metrics.WRITES.labels(verb, kind).inc()


async def _lead(*jobs: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_exit_with_lease(job))


async def _exit_with_lease(job: Coroutine[Any, Any, None]) -> None:
    """Run a job that only a leader may do. When it raises `LeaseLost`, the process exits at once."""
    try:
        await job
    except* leader_election.LeaseLost as lost:
        log.error("lease_lost", extra={"cause": str(lost.exceptions[0])})  # noqa: TRY400 - no traceback is needed
        sys.stderr.flush()
        os._exit(EXIT_LEASE_LOST)


async def _until(job: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Run a job until it ends or `stop` is set; returns whether it ended."""
    running = asyncio.ensure_future(job)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
        return True
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return False


async def run(config: operator_config.Config, pod: str, reconcilers: Sequence[type[Reconciler[Any, Any]]]) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, pod, stop, reconcilers)


def main(arguments: list[str] | None = None, reconcilers: Sequence[type[Reconciler[Any, Any]]] = RECONCILERS) -> int:
    """Parse arguments and configuration, and run the operator with these reconcilers. Returns the exit code."""
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
    except operator_config.InvalidConfig as error:
        for line in str(error).splitlines():
            log.error("invalid_config", extra={"cause": line})  # noqa: TRY400 - no traceback is needed
        return EXIT_INVALID_CONFIG
    asyncio.run(run(config, pod, reconcilers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
