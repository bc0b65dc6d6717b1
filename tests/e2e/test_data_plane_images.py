"""The images of the Managed data plane on a real node, in the operator's StatefulSets."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli.local import inspection
from aether_operator.api import labels
from aether_operator.api.platforms import Platform, Server
from aether_operator.catalog import names
from aether_operator.catalog.releases import Release
from aether_operator.catalog.servers import SERVERS
from aether_operator.desired import platforms as desired
from aether_operator.desired import secrets as credentials
from aether_operator.observed.platforms import ObservedPlatform
from aether_testing.values import builders, observations

if TYPE_CHECKING:
    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

CLIENT = (Path(__file__).parent / "inside_a_client.py").read_text()

PROGRAMS = {Server.POSTGRES: "postgres", Server.KAFKA: "java", Server.NATS: "nats-server", Server.REDIS: "redis-server"}
WRONG = "not-the-password"


@dataclass
class Run:
    """One server, run as the operator runs it, and a client in another pod."""

    namespace: Namespace
    cluster: Cluster
    server: Server
    password: str = ""

    @property
    def platform(self) -> Platform:
        return observations.a_platform("one", self.namespace.name)

    def client(self) -> None:
        pod = builders.a_pod("sleep", "1000", image=self.cluster.images["operator"])
        self.namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": pod})

    def with_new_credentials(self) -> None:
        """Apply the server's children with new credentials, and wait until a pod with these is Ready."""
        release = Release(
            images={one: self.cluster.images[one.value] for one in Server}, service_image=self.cluster.images["service"]
        )
        fresh = lambda: secrets.token_urlsafe(24)  # noqa: E731 - the source of passwords
        children = [
            child
            for child in desired.children(self.platform, ObservedPlatform(children={}), release, fresh)
            if child["metadata"]["labels"][labels.COMPONENT] == self.server.value
        ]
        for child in children:
            child["metadata"].pop("ownerReferences", None)  # no platform object exists here
        self.namespace.apply(*children)
        (secret,) = [
            one
            for one in children
            if (one["kind"], one["metadata"]["name"]) == ("Secret", names.server_child(self.platform, self.server))
        ]
        self.password = credentials.decoded(secret)["password"]
        word = credentials.credentials_id(secret)
        self.until_ready(lambda pod: pod["metadata"]["annotations"].get(labels.CREDENTIALS) == word, "has started")

    def until_ready(self, also: Any, expected: str) -> None:
        def holds(seen: dict[str, dict[str, Any]]) -> bool:
            pods = [one for one in seen.values() if "deletionTimestamp" not in one["metadata"]]
            return any(ready(pod) and also(pod) for pod in pods)

        selector = ",".join(
            f"{k}={v}" for k, v in labels.selector(observations.an_owner("one"), self.server.value).items()
        )
        self.namespace.until(
            holds, "pods", f"--selector={selector}", deadline=300, expected=f"a Ready {self.server} that {expected}"
        )

    def run_client(self, word: str = "", *, password: str = "") -> dict[str, Any]:
        """The client's output, after it stored a value on the server, if one is given."""
        login = ("aether", password or self.password)
        output = self.namespace.text(
            *("exec", "--stdin", "client", "--", "python3", "-", self.server.value),
            *(names.server_host(self.platform, self.server), *login, word),
            stdin=CLIENT,
        )
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer

    def serves_ipv6(self) -> bool:
        """Whether it listens on all IPv6 addresses too; without IPv6, IPv4 is enough."""
        if not Path("/proc/net/if_inet6").exists():
            return True
        pod = f"{names.server_child(self.platform, self.server)}-0"
        sockets = self.namespace.text("exec", pod, "--", "cat", "/proc/net/tcp6")
        everywhere, listening = "0" * 32, "0A"
        return f"{everywhere}:{SERVERS[self.server].port:04X} {everywhere}:0000 {listening}" in sockets

    def killed(self) -> None:
        """Kill the server with all its processes, as the kernel does when memory runs out."""
        holder = json.loads((self.cluster.kubeconfig.parent / "holder.json").read_text())["pid"]
        program = PROGRAMS[self.server]
        victims = [pid for pid in inspection.processes(holder) if command_of(pid) == program]
        assert victims
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):  # it ends by itself without its parent
                os.kill(pid, signal.SIGKILL)
        self.until_ready(lambda pod: restarts(pod) > 0, "was killed and started again")


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # it has just ended


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def is_rejected(answer: dict[str, Any]) -> bool:
    return any(words in answer["fault"] for words in ("password authentication failed", "AuthenticationFailed"))


def restarts(pod: dict[str, Any]) -> int:
    return sum(one["restartCount"] for one in pod["status"]["containerStatuses"])


@pytest.mark.parametrize("server", list(Server))
def test_server_keeps_data_through_new_credentials_and_rejects_old_ones(
    node: Cluster, node_namespace: Namespace, server: Server
) -> None:
    run = Run(node_namespace, node, server)
    run.client()
    run.with_new_credentials()
    node_namespace.until(
        lambda seen: any(ready(one) for one in seen.values()),
        "pods",
        "--field-selector=metadata.name=client",
        expected="the client is there",
    )
    assert run.run_client("one") == {"kept": ["one"]}
    assert run.serves_ipv6()
    assert is_rejected(run.run_client(password=WRONG))

    old = run.password
    run.with_new_credentials()  # the pod is replaced
    assert run.run_client("two") == {"kept": ["one", "two"]}
    assert is_rejected(run.run_client(password=old))

    run.killed()
    assert run.run_client() == {"kept": ["one", "two"]}
