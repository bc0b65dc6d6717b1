"""A namespace with a running operator, real servers and fake services, in which tests create platforms of their own."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aether_cli import explanation, status_view
from aether_testing.cluster import namespaces
from aether_testing.processes import installations, planes
from aether_testing.values import audits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.installations import Installation
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.fake_services import FakeServices

Object = dict[str, Any]
EVERYWHERE: Final = (
    "tp", "events.events.k8s.io", "statefulset", "service", "configmap", "pvc", "networkpolicy", "pods",
)  # fmt: skip
"""The kinds of objects in which no password may be."""


@dataclass(slots=True, kw_only=True)
class Environment:
    """A namespace with an operator, and real servers; each test creates its own platforms."""

    cluster: Cluster
    installation: Installation
    operator: Operator
    namespace: Namespace
    plane: Plane
    fakes: FakeServices
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def external(self, **spec: Any) -> tuple[str, Object]:
        """A new platform on external servers, with its login in place and a database of its own; not created yet."""
        name = f"ext-{next(self.numbers)}"
        planes.apply(self.namespace, planes.login_secret())
        return name, planes.a_platform(self.plane.external(self.plane.database()) | spec, name)

    def ready_external(self, **spec: Any) -> tuple[str, Object]:
        """A platform on external servers that is Ready."""
        name, platform = self.external(**spec)
        planes.apply(self.namespace, platform)
        planes.until(self.namespace, "Ready", "True", name=name)
        return name, platform

    def ready_managed(self) -> tuple[str, Object]:
        """A platform with all but Kafka Managed, on a new volume."""
        name = self.release_managed("man")
        planes.apply(self.namespace, planes.login_secret(), planes.a_platform(self.plane.mixed(), name))
        planes.until(self.namespace, "Ready", "True", name=name)
        return name, planes.a_platform(self.plane.mixed(), name)

    def release_managed(self, prefix: str) -> str:
        """Delete all platforms, which releases the only managed database; returns a new name."""
        for one in self.namespace.get("tp")["items"]:
            self.delete(one["metadata"]["name"])
        self.operator.wait_idle()  # a reconcile from before the deletion would claim the database again
        self.plane.forget_managed()
        return f"{prefix}-{next(self.numbers)}"

    def delete(self, name: str) -> None:
        """Delete a platform, and wait until it is gone."""
        self.namespace.text("delete", "tp", name, "--wait=true", f"--timeout={namespaces.DEADLINE:g}s")

    def child(self, kind: str, name: str) -> Object:
        return self.namespace.get(kind, name)

    def until(self, kind: str, name: str, holds: Callable[[Object], bool], expected: str) -> Object:
        """Watch an object until a condition holds; returns it."""
        seen = self.namespace.until(
            lambda all_of_it: any(holds(one) for one in all_of_it.values()),
            kind,
            f"--field-selector=metadata.name={name}",
            expected=expected,
        )
        return next(iter(seen.values()))

    def edit(self, kind: str, name: str, patch: Object) -> None:
        """Merge-patch an object with another field manager."""
        self.namespace.text(
            "patch", kind, name, "--type=merge", "--field-manager=somebody", f"--patch={json.dumps(patch)}"
        )

    def condition(self, name: str, kind: str) -> Object:
        conditions = self.namespace.get("tp", name)["status"]["conditions"]
        return next(one for one in conditions if one["type"] == kind)

    def repaired(self) -> set[str]:
        """The children that `Repaired` events name, such as `Service ext-1-redis`."""
        events = self.namespace.get("events.events.k8s.io")["items"]
        return {" ".join(one["note"].split()[:2]) for one in events if one["reason"] == "Repaired"}

    def requests(self) -> list[audits.Entry]:
        """Every request of the operator's account."""
        everything = audits.Mark(inode=audits.mark(self.cluster).inode, offset=0)
        return audits.of(audits.since(self.cluster, everything), self.installation.account)

    def revealed(self) -> list[str]:
        """The passwords and canaries that are in the operator's log, in an object, an event, or what the CLI shows."""
        canaries = [planes.PASSWORD, "canary-"]
        canaries += [
            base64.b64decode(value).decode()
            for one in self.namespace.get("secrets")["items"]
            for key, value in one.get("data", {}).items()
            if key == "password"
        ]
        output = self.operator.text
        for one in self.namespace.get("tp")["items"]:
            about = f"--field-selector=regarding.name={one['metadata']['name']}"
            lines = explanation.explanation_lines(one, self.namespace.get("events.events.k8s.io", about)["items"])
            output += "\n".join([*lines, *status_view.status_lines(status_view.AetherState(platforms=[one]))])
        for what in EVERYWHERE:
            output += json.dumps(self.namespace.get(what))
        output += json.dumps([one["metadata"] for one in self.namespace.get("secrets")["items"]])
        return [word for word in canaries if word in output]


@contextlib.contextmanager
def running(cluster: Cluster, plane: Plane, fakes: FakeServices, folder: Path) -> Iterator[Environment]:
    """A new namespace with a leading operator, which is restarted whenever it ends, for the length of a block."""
    namespace = namespaces.create(cluster, "operator-environment")
    installation = installations.prepare(cluster, namespace, folder, fakes)
    with installation.operator(supervised=True, managedAddresses=plane.addresses()) as operator:
        operator.wait_leading()
        yield Environment(
            cluster=cluster, installation=installation, operator=operator, namespace=namespace, plane=plane, fakes=fakes
        )
    namespace.kubectl.text("delete", "namespace", namespace.name, "--ignore-not-found", "--wait=false")
