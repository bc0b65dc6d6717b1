"""Two operators, one Lease: after a failure of the leader the other takes over, and the former writes nothing more."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from aether_testing import wait
from aether_testing.cluster import namespaces
from aether_testing.processes import installations, planes
from aether_testing.values import audits

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.fake_services import FakeServices
    from aether_testing.values.audits import Entry

PODS = ("operator-a", "operator-b")
LONGEST = 20.0


def _leader(namespace: Namespace) -> str:
    lease = namespace.get("lease", installations.NAME)
    return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]


def _other_leads(namespace: Namespace, name: str) -> bool:
    return _leader(namespace) not in {name, ""}


def _kill(operator: Operator) -> None:
    operator.kill()


def _freeze(operator: Operator) -> None:
    operator.freeze()


@pytest.mark.parametrize("fail", [_kill, _freeze], ids=["killed", "stopped"])
@pytest.mark.campaign(full=25)
def test_other_replica_takes_over_whatever_happens_to_the_leader(  # noqa: PLR0913 - what it needs
    control_plane: Cluster,
    plane: Plane,
    fakes: FakeServices,
    tmp_path_factory: pytest.TempPathFactory,
    fail: Callable[[Operator], None],
    rounds: int,
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    namespace = namespaces.create(control_plane, "operator-leaders")
    installation = installations.prepare(control_plane, namespace, tmp_path_factory.mktemp("operators"), fakes)
    planes.apply(namespace, planes.login_secret(), planes.a_platform(plane.external(plane.database())))
    with (
        installation.operator(PODS[0], supervised=True) as first,
        installation.operator(PODS[1], supervised=True) as second,
    ):
        both = dict(zip(PODS, (first, second), strict=True))
        planes.until(namespace, "Ready", "True")
        for nth in range(rounds):
            wait.until(lambda: _leader(namespace) in both, "one leads")
            name = _leader(namespace)
            before = audits.mark(control_plane)
            time.sleep(chance.uniform(0, 1.5))  # a random moment: while it writes, while it renews, while it is idle
            planes.apply(namespace, planes.a_platform(plane_spec(namespace, plane, days=chance.randrange(100, 3000))))
            fail(both[name])
            wait.until(partial(_other_leads, namespace, name), "the other leads", seconds=LONGEST)
            if fail is _freeze:
                both[name].thaw()
                both[name].wait_exit()  # it detects that its Lease has expired, and is restarted
            planes.until(namespace, "Ready", "True")
            late = _writes_after_takeover(audits.since(control_plane, before), installation.account, name)
            assert late == [], f"round {nth}, seed {seed}: {name} wrote after the Lease had moved"
    namespace.kubectl.text("delete", "namespace", namespace.name, "--wait=false")


def plane_spec(namespace: Namespace, plane: Plane, *, days: int) -> dict[str, object]:
    """The platform's spec with another retention, so that there is something to write."""
    database = namespace.get("tp", "paper")["spec"]["dataPlane"]["postgres"]["external"]["database"]
    return plane.external(database) | {"retention": {"tradesDays": days}}


def _writes_after_takeover(entries: list[Entry], account: str, old: str) -> list[Entry]:
    """Accepted writes of the old leader after the new one had acquired the Lease."""
    ours = [one for one in entries if one.user == account]
    taken = [
        one.received
        for one in audits.accepted(audits.writes(ours, leases=True))
        if one.resource == "leases" and one.pod != old
    ]
    if not taken:
        return []
    moved = min(taken)
    late = audits.accepted(audits.writes(ours))
    return [one for one in late if one.pod == old and one.received > moved]
