"""Any write of an operator may be its last, or be rejected: the end state is the same.

A scenario is run once undisturbed, which numbers its writes and gives the end state. Then each fault is injected at
each write, and the operator must reach the same end state and become idle.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api import labels
from aether_operator.planning import child_kinds
from aether_testing.cluster import masked_children, namespaces
from aether_testing.processes import installations, operators, planes
from aether_testing.servers import counting_proxy
from aether_testing.servers.api_proxy import faults

if TYPE_CHECKING:
    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.counting_proxy import Proxy
    from aether_testing.servers.fake_services import FakeServices

NAME = "paper"
STALE = 409
Fault = Callable[["Environment"], Any]


@dataclass
class Environment:
    """A namespace with an operator behind a proxy."""

    namespace: Namespace
    plane: Plane
    proxy: Proxy
    operator: Operator

    def platform(self, **redis: Any) -> dict[str, Any]:
        spec = self.plane.mixed()
        spec["dataPlane"]["redis"] = {"managed": redis or {"storage": "1Gi"}}
        return planes.a_platform(spec, NAME)

    def clear(self) -> None:
        """Remove the platform, its children and its data."""
        mine = f"--selector={labels.PLATFORM}={NAME}"
        self.namespace.text("delete", "tp", NAME, "--ignore-not-found", "--wait=true")
        every = ",".join(kind.plural for kind in child_kinds.KINDS)
        self.namespace.text("delete", every, mine, "--wait=true")
        self.namespace.until(lambda seen: not seen, "pods", mine, expected="no pod of it is left")
        self.plane.forget_managed()
        operators.wait_settled(self.operator, platforms=0)

    def settle(self) -> dict[str, Any]:
        """Wait until the platform is Ready and the operator idle; returns its masked children."""
        planes.until(self.namespace, "Ready", "True", name=NAME)
        operators.wait_settled(self.operator, resyncs=2)
        return masked_children.of(self.namespace)


def create(env: Environment) -> dict[str, Any]:
    planes.apply(env.namespace, env.platform())
    return env.settle()


def edit(env: Environment) -> dict[str, Any]:
    """Change the limits of a settled platform."""
    planes.apply(env.namespace, env.platform(storage="1Gi", resources={"limits": {"memory": "700Mi"}}))
    env.namespace.until(
        lambda seen: any(
            one["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "700Mi"
            for one in seen.values()
        ),
        "statefulset",
        f"--field-selector=metadata.name={NAME}-redis",
        expected="the limits are those of the edit",
    )
    return env.settle()


def settings(env: Environment) -> dict[str, Any]:
    """Change the pairs and replicas of a settled platform."""
    platform = env.platform()
    platform["spec"] |= {"pairs": ["BTC/USD"], "components": {"ingest": {"replicas": 2}}}
    planes.apply(env.namespace, platform)
    env.namespace.until(bool, "pod", f"--field-selector=metadata.name={NAME}-ingest-1", expected="there are two")
    return env.settle()


def remove(env: Environment) -> dict[str, Any]:
    env.namespace.text("delete", "tp", NAME, "--wait=true")
    mine = f"--selector={labels.PLATFORM}={NAME}"
    env.namespace.until(
        lambda seen: not seen, "statefulset,service,networkpolicy,configmap", mine, expected="the children are deleted"
    )
    operators.wait_settled(env.operator, platforms=0)
    return masked_children.of(env.namespace)


SCENARIOS: dict[str, tuple[tuple[Callable[[Environment], Any], ...], Callable[[Environment], dict[str, Any]]]] = {
    "create": ((), create),
    "edit": ((create,), edit),
    "settings": ((create,), settings),
    "delete": ((create,), remove),
}
LEAST = {"create": 26, "edit": 2, "settings": 6, "delete": 0}
"""Least writes: four Secrets, three of each other kind for the servers, eight for the components, a config
sync, and the status; of the settings ConfigMap, budget, workload, two config syncs and the status. A deletion is the
collector's.
"""
KILLS: dict[str, Fault] = {
    "killed before": lambda env: faults.KillBefore(env.operator.kill),
    "killed after": lambda env: faults.KillAfter(env.operator.kill),
}
ANSWERS: dict[str, Fault] = {
    **{f"answered {code}": lambda _, code=code: faults.Answer(code) for code in (STALE, 422, 429, 500)},  # type: ignore[misc]
    "applied and silent": lambda _: faults.AppliedThenSilent(),
    "cut": lambda _: faults.Reset(),
}


@pytest.fixture
def env(
    control_plane: Cluster, plane: Plane, fakes: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    namespace = namespaces.create(control_plane, "operator-writes")
    installation = installations.prepare(control_plane, namespace, tmp_path_factory.mktemp("operator"), fakes)
    planes.apply(namespace, planes.login_secret())
    plane.forget_managed()
    with (
        counting_proxy.between(control_plane) as proxy,
        installation.operator(
            proxy=proxy, supervised=True, releases_lease=True, managedAddresses=plane.addresses()
        ) as operator,
    ):
        operator.wait_leading()
        yield Environment(namespace, plane, proxy, operator)
    namespace.kubectl.text("delete", "namespace", namespace.name, "--wait=false")


def _run(env: Environment, scenario: str, number: int = 0, fault: Any = None) -> tuple[dict[str, Any], int]:
    """Run a scenario; returns the end state and the number of writes."""
    env.clear()
    before, act = SCENARIOS[scenario]
    for one in before:
        one(env)
    env.proxy.reset()
    if fault is not None:
        env.proxy.at(number, fault)
    end = act(env)
    count = len(env.proxy.writes)
    env.proxy.reset()  # statuses may be written once more or less, so the last write may not occur
    return end, count


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("chosen", [KILLS, ANSWERS], ids=["killed", "rejected"])
@pytest.mark.campaign(full=1_000_000)  # in full: each fault at each write
def test_failure_at_any_write_leads_to_the_same_end_state(
    env: Environment, scenario: str, chosen: dict[str, Fault], rounds: int
) -> None:
    seed = random.randrange(1 << 32)
    reference, count = _run(env, scenario)
    again, _ = _run(env, scenario)
    assert again == reference, "two undisturbed runs differ"
    assert count >= LEAST[scenario]
    injections = [(number, name) for number in range(1, count + 1) for name in chosen]
    random.Random(seed).shuffle(injections)
    for number, name in injections[:rounds]:
        end, _ = _run(env, scenario, number, chosen[name](env))
        assert end == reference, f"{scenario}, {name} write {number}, seed {seed}:\n{_difference(reference, end)}"


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return "\n".join(
        f"{key}: {json.dumps(one.get(key))[:2000]}\n  now: {json.dumps(other.get(key))[:2000]}"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    )
