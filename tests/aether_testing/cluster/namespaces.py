"""A namespace for one test: restricted as Aether's own are, deleted afterwards, printed when the test fails."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aether_cli import kubectl_client, problems
from aether_cli.local import manifests

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_cli.local.startup import Cluster

DEADLINE = 60.0
"""Seconds; generous, since tests assert behaviour and benchmarks measure speed."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A test's namespace, and kubectl for its cluster."""

    name: str
    kubectl: kubectl_client.Kubectl

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply in this namespace."""
        self.kubectl.apply(*({**one, "metadata": {**one["metadata"], "namespace": self.name}} for one in objects))

    def text(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl with this namespace and return what it prints."""
        verb, *rest = words  # the option comes first: after a `--` it would belong to the program that is run
        return self.kubectl.text(verb, f"--namespace={self.name}", *rest, stdin=stdin)

    def get(self, *words: str) -> dict[str, Any]:
        """`kubectl get` in this namespace: an object or a list."""
        return self.kubectl.get(*words, f"--namespace={self.name}")

    def until(
        self, holds: Callable[[kubectl_client.Objects], bool], *what: str, expected: str, deadline: float = DEADLINE
    ) -> kubectl_client.Objects:
        """Watch objects of this namespace until a condition holds; the error shows the last observed objects."""
        return self.kubectl.until(holds, *what, f"--namespace={self.name}", deadline=deadline, expected=expected)

    def until_available(self, deployment: str) -> None:
        """Wait until all replicas of a Deployment's newest generation are available."""
        self.until(
            lambda deployments: any(_available(one) for one in deployments.values()),
            "deployments",
            f"--field-selector=metadata.name={deployment}",
            expected=f"Deployment {deployment} is available",
        )

    def shown(self) -> str:
        """The namespace's objects and last events, for the report of a failed test."""
        parts = []
        for what in ("pods,deployments,jobs,persistentvolumeclaims,services", "events"):
            try:
                items = self.get(what)["items"]
            except problems.AetherError as fault:
                parts.append(str(fault))
                continue
            if what == "events":
                parts += [f"  {one.get('reason')}: {one.get('message')}" for one in items[-30:]]
            else:
                parts.append(kubectl_client.summary(items))
        return "\n".join(parts)


def _available(deployment: dict[str, Any]) -> bool:
    status, desired = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
    )


def create(cluster: Cluster, test: str, name: str = "") -> Namespace:
    """Create a namespace, labelled with the test's name.

    Args:
        cluster: Where.
        test: The test's name.
        name: The namespace's name; by default a random one.
    """
    name = name or f"test-{secrets.token_hex(4)}"
    label = "".join(one if one.isalnum() else "-" for one in test)[:60].strip("-")
    cluster.kubectl.apply(manifests.restricted_namespace(name, {"aether-test": label}))
    return Namespace(name, cluster.kubectl)
