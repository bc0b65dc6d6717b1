"""The Lease: who may act. Held by renewing it; lost by the monotonic clock, whatever the reason for not renewing.

Kubernetes' own client libraries compare times of different machines nowhere, and neither do we: a candidate watches how
long the record stays as it is, by its own clock.
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
"""Seconds that a record must stay unchanged before somebody else may take it."""
RENEW_DEADLINE: Final = 5.0
"""Seconds after the start of the last good renewal, when the holder stops by itself."""
RETRY_PERIOD: Final = 1.0
"""Seconds between tries, and between renewals."""
RELEASED: Final = 1
"""What a released Lease says of its duration: anybody may take it."""


class LeaseLost(Exception):
    """We may not write any more: the process ends at once."""


@dataclass(slots=True, kw_only=True)
class Lease:
    """One candidate's view of the Lease.

    Args:
        api: Its requests are not guarded: this is the guard.
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
    _seen: tuple[str, float] = field(default=("", 0.0))
    """The record's version, and since when we have seen it so."""

    @property
    def held(self) -> bool:
        """Whether we may act now."""
        return self._renewed is not None and self.clock() < self._renewed + RENEW_DEADLINE

    def guard(self) -> float:
        """How many seconds a write may take that starts now.

        Raises:
            LeaseLost: It is not ours any more, or may not be.
        """
        if self._renewed is None or not self.held:
            raise LeaseLost(f"lease {self.namespace}/{self.name} is not held")
        return self._renewed + LEASE_DURATION - self.clock()

    async def acquire(self) -> None:
        """Return when it is ours."""
        while not await self._try():  # noqa: ASYNC110 - what changes is in the cluster, not in this process
            await asyncio.sleep(RETRY_PERIOD)  # nobody tells us when it is free

    async def renew(self) -> None:
        """Renew it for as long as that goes well.

        Raises:
            LeaseLost: Somebody else has it, or it could not be renewed in time.
        """
        while True:
            await asyncio.sleep(RETRY_PERIOD)
            if not self.held or (not await self._try() and not self.held):
                self._renewed = None
                raise LeaseLost(f"lease {self.namespace}/{self.name} was lost")

    async def release(self) -> None:
        """Let somebody else have it at once."""
        if not self.held:
            return
        self._renewed = None
        # Read anew: a renewal that was cut off may have been applied, and then what we know of it is too old.
        lease = await self.api.get(LEASES, self.namespace, self.name)
        if lease is None or lease["spec"].get("holderIdentity") != self.identity:
            return
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": RELEASED}
        await self._put({**lease, "spec": spec})

    async def _try(self) -> bool:
        """One look, and one write where the look allows it. Returns whether it is ours."""
        began = self.clock()
        try:
            async with asyncio.timeout(2 * RETRY_PERIOD):  # a dead connection must leave time for another try
                lease = await self.api.get(LEASES, self.namespace, self.name)
                taken = await self._take(lease)
        except (TimeoutError, api_client.Unavailable, api_client.ApiError):
            return False  # the clock decides what that means
        if not taken:
            self._renewed = None
            return False
        self._renewed = began
        return True

    async def _take(self, lease: dict[str, Any] | None) -> bool:
        """Write us down as the holder, unless somebody else is."""
        now = _micro_time()
        ours = {"holderIdentity": self.identity, "leaseDurationSeconds": int(LEASE_DURATION), "renewTime": now}
        if lease is None:
            first = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {**ours, "acquireTime": now, "leaseTransitions": 0},
            }
            where = api_client.path(LEASES, self.namespace)
            await self.api.request("POST", where, body=first, deadline=RENEW_DEADLINE)
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity", "")
        if holder == self.identity:
            await self._put({**lease, "spec": {**spec, **ours}})
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, self.clock())
        if holder and self.clock() - self._seen[1] < LEASE_DURATION:
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        await self._put({**lease, "spec": {**spec, **ours, "acquireTime": now, "leaseTransitions": transitions}})
        return True

    async def _put(self, lease: dict[str, Any]) -> None:
        """Only over the version that was read: of two candidates one wins."""
        where = api_client.path(LEASES, self.namespace, self.name)
        await self.api.request("PUT", where, body=lease, deadline=RENEW_DEADLINE)


def _micro_time() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
