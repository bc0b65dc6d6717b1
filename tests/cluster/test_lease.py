"""The Lease on a real API server: one holder at a time, taken over after its duration."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from kubernetes.aio import client, config

from aether_operator.kube import api_client, leader_election

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

DEADLINE = 60


@dataclass
class Clock:
    """The monotonic clock of one process, set by the test."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Candidates:
    """Candidates for the Lease of one namespace."""

    configuration: client.Configuration
    namespace: str
    made: list[api_client.Api] = field(default_factory=list)

    def one(self, identity: str, clock: Callable[[], float]) -> leader_election.Lease:
        api = api_client.Api(configuration=self.configuration)
        self.made.append(api)
        return leader_election.Lease(api=api, namespace=self.namespace, name="op", identity=identity, clock=clock)


@pytest.fixture
async def candidates(control_plane: Cluster, namespace: Namespace) -> AsyncIterator[Candidates]:
    configuration = client.Configuration(retries=False)
    await config.load_kube_config(str(control_plane.kubeconfig), client_configuration=configuration)
    found = Candidates(configuration, namespace.name)
    yield found
    for api in found.made:
        await api.close()


def record(namespace: Namespace) -> dict[str, object]:
    spec: dict[str, object] = namespace.get("lease", "op")["spec"]
    return spec


async def waits(lease: leader_election.Lease) -> bool:
    """Whether it does not acquire the Lease in two attempts."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * leader_election.RETRY_PERIOD + 0.5):
            await lease.acquire()
    return not lease.held


async def test_first_candidate_acquires_the_lease_and_the_second_waits(
    candidates: Candidates, namespace: Namespace
) -> None:
    first, second = candidates.one("a_1", Clock()), candidates.one("b_2", Clock())
    await first.acquire()
    assert first.held
    assert await waits(second)
    spec = record(namespace)
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("a_1", 0, 8)


async def test_lease_is_taken_over_after_its_duration_and_not_before(
    candidates: Candidates, namespace: Namespace
) -> None:
    clock = Clock()
    first, second = candidates.one("a_1", Clock()), candidates.one("b_2", clock)
    await first.acquire()
    assert await waits(second)
    clock.now += leader_election.LEASE_DURATION - 0.1
    assert await waits(second)
    clock.now += 0.2
    await second.acquire()
    spec = record(namespace)
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b_2", 1)


async def test_holder_that_slept_stops_writing_by_its_own_clock(candidates: Candidates) -> None:
    clock = Clock()
    lease = candidates.one("a_1", clock)
    await lease.acquire()
    assert lease.guard() == leader_election.LEASE_DURATION
    clock.now += leader_election.RENEW_DEADLINE - 0.1
    assert lease.guard() == pytest.approx(leader_election.LEASE_DURATION - leader_election.RENEW_DEADLINE + 0.1)
    clock.now += 0.2
    assert not lease.held
    with pytest.raises(leader_election.LeaseLost):
        lease.guard()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(leader_election.LeaseLost):
            await lease.renew()


async def test_holder_of_a_taken_lease_loses_it_at_next_renewal(candidates: Candidates) -> None:
    clock = Clock()
    first, second = candidates.one("a_1", Clock()), candidates.one("b_2", clock)
    await first.acquire()
    assert await waits(second)
    clock.now += leader_election.LEASE_DURATION + 1
    await second.acquire()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(leader_election.LeaseLost):
            await first.renew()


async def test_a_released_lease_is_free_at_once(candidates: Candidates, namespace: Namespace) -> None:
    first, second = candidates.one("a_1", Clock()), candidates.one("b_2", Clock())
    await first.acquire()
    await first.release()
    assert record(namespace)["holderIdentity"] == ""
    async with asyncio.timeout(DEADLINE):
        await second.acquire()
    assert record(namespace)["leaseTransitions"] == 1


async def test_one_of_many_concurrent_candidates_acquires_the_lease(candidates: Candidates) -> None:
    several = [candidates.one(f"p{n}_x", Clock()) for n in range(8)]
    trying = [asyncio.create_task(one.acquire()) for one in several]
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(trying, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(leader_election.RETRY_PERIOD)  # until the others have read it too
    for one in trying:
        one.cancel()
    assert sum(one.held for one in several) == 1


async def test_lease_is_neither_acquired_nor_kept_without_an_api_server(
    candidates: Candidates, unused_tcp_port: int
) -> None:
    clock = Clock()
    lease = candidates.one("a_1", clock)
    await lease.acquire()
    lease.api.configuration = client.Configuration(host=f"http://127.0.0.1:{unused_tcp_port}", retries=False)
    await lease.api.close()
    lease.api = api_client.Api(configuration=lease.api.configuration)
    candidates.made.append(lease.api)
    renewing = asyncio.create_task(lease.renew())
    await asyncio.sleep(1.5 * leader_election.RETRY_PERIOD)
    assert lease.held  # it could not be renewed, and has not expired yet
    clock.now += leader_election.RENEW_DEADLINE
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(leader_election.LeaseLost):
            await renewing


async def test_interrupted_renewal_does_not_prevent_release_of_the_lease(
    candidates: Candidates, namespace: Namespace
) -> None:
    lease = candidates.one("a_1", Clock())
    await lease.acquire()
    # After a renewal was applied without a response, the record is newer than the known one.
    namespace.text("annotate", "lease", "op", "team.example/note=newer")
    await lease.release()
    assert record(namespace)["holderIdentity"] == ""
