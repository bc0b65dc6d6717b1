"""Leader election by a Lease: the leader renews it, and stops by its own monotonic clock when it could not.

As in client-go, times of different machines are never compared: a candidate measures by its own clock how long the
Lease stays unchanged.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aether_operator.kube import api_client
from aether_operator.observed.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

LEASES: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
LEASE_DURATION: Final = 8.0
"""Seconds that a Lease must stay unchanged before another candidate takes it."""
RENEW_DEADLINE: Final = 5.0
"""Seconds after the start of the last successful renewal at which the leader stops."""
RETRY_PERIOD: Final = 1.0
"""Seconds between attempts to acquire or to renew."""
RELEASED_DURATION: Final = 1
"""Seconds in a released Lease, as client-go writes: any candidate takes it at once."""


class LeaseLost(Exception):
    """This process is not the leader any more: it must not write, and exits at once."""


@dataclass(slots=True, kw_only=True)
class Lease:
    """One candidate's view of the Lease.

    Args:
        api: A client without a guard, since this is the guard of the others.
        namespace: Of the Lease.
        name: Of the Lease.
        identity: `<pod>_<random>`: an admission policy compares the pod.
        clock: The monotonic clock.
    """

    api: api_client.Api
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float] = time.monotonic
    _renewed: float | None = None
    _observed: tuple[str, float] = field(default=("", 0.0))
    """The Lease's resourceVersion, and since when it has been that, by `clock`."""

    @property
    def held(self) -> bool:
        """Whether this process leads."""
        return self._renewed is not None and self.clock() < self._renewed + RENEW_DEADLINE

    def guard(self) -> float:
        """The seconds that a write which starts now may take, before another candidate could lead.

        Raises:
            LeaseLost: This process does not lead.
        """
        if self._renewed is None or not self.held:
            raise LeaseLost(f"lease {self.namespace}/{self.name} is not held")
        return self._renewed + LEASE_DURATION - self.clock()

    async def acquire(self) -> None:
        """Return when this process leads."""
        while not await self._acquire_or_renew():  # noqa: ASYNC110 - what changes is in the cluster, not in this process
            await asyncio.sleep(RETRY_PERIOD)  # polled, as in client-go

    async def renew(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LeaseLost: Another candidate has it, or it could not be renewed in time.
        """
        while True:
            await asyncio.sleep(RETRY_PERIOD)
            if not self.held or (not await self._acquire_or_renew() and not self.held):
                self._renewed = None
                raise LeaseLost(f"lease {self.namespace}/{self.name} was lost")

    async def release(self) -> None:
        """Give up the Lease, so that another candidate takes it at once. Does nothing when it is not held."""
        if not self.held:
            return
        self._renewed = None
        # Read anew: a renewal that was cancelled may have been applied.
        lease = await self.api.get(LEASES, self.namespace, self.name)
        if lease is None or lease["spec"].get("holderIdentity") != self.identity:
            return
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": RELEASED_DURATION}
        await self._put({**lease, "spec": spec})

    async def _acquire_or_renew(self) -> bool:
        """Read the Lease, and acquire or renew it if possible. Returns whether this process holds it."""
        began = self.clock()
        try:
            async with asyncio.timeout(2 * RETRY_PERIOD):  # a dead connection must leave time for another attempt
                lease = await self.api.get(LEASES, self.namespace, self.name)
                written = await self._write(lease)
        except (TimeoutError, api_client.Unavailable, api_client.ApiError):
            return False  # `held` decides by the clock what that means
        if not written:
            self._renewed = None
            return False
        self._renewed = began
        return True

    async def _write(self, lease: dict[str, Any] | None) -> bool:
        """Write this process as the holder, unless another candidate holds the Lease. Returns whether it did."""
        now = _micro_time()
        record = {"holderIdentity": self.identity, "leaseDurationSeconds": int(LEASE_DURATION), "renewTime": now}
        if lease is None:
            first = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {**record, "acquireTime": now, "leaseTransitions": 0},
            }
            where = api_client.path(LEASES, self.namespace)
            await self.api.request("POST", where, body=first, deadline=RENEW_DEADLINE)
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity", "")
        if holder == self.identity:
            await self._put({**lease, "spec": {**spec, **record}})
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._observed[0] != version:
            self._observed = (version, self.clock())
        if holder and self.clock() - self._observed[1] < LEASE_DURATION:
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        await self._put({**lease, "spec": {**spec, **record, "acquireTime": now, "leaseTransitions": transitions}})
        return True

    async def _put(self, lease: dict[str, Any]) -> None:
        """Update the resourceVersion that was read: of two candidates one gets a conflict."""
        where = api_client.path(LEASES, self.namespace, self.name)
        await self.api.request("PUT", where, body=lease, deadline=RENEW_DEADLINE)


def _micro_time() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
