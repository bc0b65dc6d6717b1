"""A namespace with what the operator needs there: CRDs, the account, its rights, the fence, and a pod's token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_cli import kubectl_client, problems
from aether_operator.api import crds, labels
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.platforms import Server
from aether_testing import wait
from aether_testing.cluster import charts
from aether_testing.processes import operators

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_operator.api.definition import Definitions
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers.counting_proxy import Proxy
    from aether_testing.servers.fake_services import FakeServices

NAME: Final = labels.OPERATOR
"""The name of the account, the Lease and the Roles, as in the chart."""
RIGHTS: Final = frozenset({"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
FENCE: Final = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})


def install_crds(cluster: Cluster, definitions: Definitions = DEFINITIONS) -> None:
    """Install the CRDs of these kinds, and wait until they are established."""
    cluster.kubectl.apply(*crds.all_of(definitions))
    names = {definition.resource for definition in definitions.values()}
    # Not `kubectl wait`: it fails on one that has no conditions yet.
    cluster.kubectl.until(
        lambda seen: names <= {one["metadata"]["name"] for one in seen.values() if _established(one)},
        "crds",
        deadline=wait.SECONDS,
        expected="the CRDs are established",
    )


def _established(kind: dict[str, Any]) -> bool:
    return kubectl_client.condition(kind, "Established") == "True"


def rendered(namespace: str, *others: str, chart: Path = charts.CHART) -> list[dict[str, Any]]:
    """The chart's objects for a namespace that is the operator's and the platforms', and for more of platforms."""
    values = {"namespaces": [namespace, *others], "crds": {"install": False}}
    return charts.rendered(values=values, namespace=namespace, chart=chart)


def rights(namespace: str, *others: str) -> list[dict[str, Any]]:
    """Those of them that give the operator its rights."""
    return [one for one in rendered(namespace, *others) if _is_right(one)]


def _is_right(thing: dict[str, Any]) -> bool:
    """Whether an object gives the operator its rights; the ClusterRole `….view` gives users theirs."""
    return thing["kind"] in RIGHTS and not thing["metadata"]["name"].endswith(".view")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A namespace with the operator's rights and its fence."""

    cluster: Cluster
    namespace: Namespace
    folder: Path
    fakes: FakeServices | None = None
    """The services' endpoints; None where no platform needs to become Ready."""

    def operator(
        self,
        name: str = f"{NAME}-0",
        *,
        proxy: Proxy | None = None,
        supervised: bool = False,
        releases_lease: bool = False,
        module: str = "aether_operator",
        **config: Any,
    ) -> operators.Operator:
        """One pod of the operator, not started yet; `with` starts it, and ends it.

        Args:
            name: The pod's name.
            proxy: The proxy for its requests; None: none.
            supervised: Restart it whenever it ends, as a kubelet would.
            releases_lease: Release its Lease before a restart, instead of waiting until it expires: for tests that end
                it many times.
            module: The module that is started; one of tests may have more kinds.
            config: Changes to its configuration, by the file's keys (`resyncSeconds=1`).
        """
        folder = self.folder / name
        folder.mkdir()
        token = self._token(name)
        kubeconfig = folder / "kubeconfig"
        if proxy is not None:
            proxy.kubeconfig(kubeconfig, token)
        else:
            admin = json.loads(self.cluster.kubeconfig.read_text())
            admin["users"][0]["user"] = {"token": token}
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(json.dumps(admin))
        ours = self.namespace.name
        release = {"images": {server.value: f"aether/{server.value}:test" for server in Server}}
        settings = {
            "namespaces": [ours],
            "lease": {"namespace": ours, "name": NAME},
            "release": {**release, "serviceImage": "aether/service:test", "operatorNamespace": ours},
            "port": 0,
            "resyncSeconds": 1,
            "componentAddress": "" if self.fakes is None else self.fakes.address,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(settings))
        return operators.Operator(
            name=name, namespace=ours, folder=folder, objects=self.namespace, proxy=proxy,
            supervised=supervised, releases_lease=releases_lease, module=module,
        )  # fmt: skip

    @property
    def account(self) -> str:
        """The user's name in the audit log."""
        return f"system:serviceaccount:{self.namespace.name}:{NAME}"

    def _token(self, name: str) -> str:
        """Create a pod, and return a token of the operator's account that is bound to it."""
        self.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels.OPERATOR_POD},
                "spec": {
                    "serviceAccountName": NAME,
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "operator",
                            "image": "aether/operator:test",
                            "securityContext": {
                                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            }
        )  # fmt: skip
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}", "--duration=24h")
        return self.namespace.text("create", "token", NAME, *bound).strip()


def prepare(  # noqa: PLR0913 - a test names what differs
    cluster: Cluster,
    namespace: Namespace,
    folder: Path,
    fakes: FakeServices | None = None,
    *,
    others: Sequence[str] = (),
    definitions: Definitions = DEFINITIONS,
) -> Installation:
    """Prepare a namespace for operators: CRDs, account, rights, and the fence; returns once the fence is in force.

    `others` are further namespaces of platforms, `definitions` the kinds of which the operator has objects.
    """
    install_crds(cluster, definitions)
    chart = charts.CHART if definitions is DEFINITIONS else charts.with_kinds(folder / "chart", definitions)
    things = rendered(namespace.name, *others, chart=chart)
    released = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace.name},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0},
    }
    cluster.kubectl.apply(*(one for one in things if _is_right(one) or one["kind"] in FENCE), released)
    installation = Installation(cluster=cluster, namespace=namespace, folder=folder, fakes=fakes)
    wait.until(lambda: "does not hold Lease" in _rejection(installation), "the fence is in force")
    return installation


def _rejection(installation: Installation) -> str:
    """Why the account may not write without a leading pod; empty while it may, before the fence is in force."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fenced"}}
    try:
        installation.namespace.text(
            "create", f"--as={installation.account}", "--dry-run=server", "--filename=-", stdin=json.dumps(secret)
        )
    except problems.ProgramFailed as refused:
        return refused.cause
    return ""
