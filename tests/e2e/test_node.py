"""A cluster with a node: restricted pods run with volumes and DNS, without access to other networks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_cli import kubectl_client
from aether_cli.local import inspection, volumes
from aether_testing.cluster import clusters, namespaces
from aether_testing.values import builders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

# Appends a line to its volume at each start, and serves the volume.
SERVE = """
import http.server, os, pathlib
pathlib.Path("/data/starts").open("a").write(os.environ["HOSTNAME"] + "\\n")
print("serving", flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)
"""


def fetch(url: str) -> str:
    """Python code that prints a URL's response; it retries, since a Service's rules follow its endpoints."""
    return f"""
import time, urllib.request
for attempt in range(60):
    try:
        print(urllib.request.urlopen({url!r}, timeout=5).read().decode()); break
    except OSError as fault:
        print("not yet:", fault); time.sleep(0.5)
else:
    raise SystemExit("no answer")
"""


def run_once(namespace: Namespace, image: str, name: str, code: str, **pod: Any) -> str:
    """Run a pod to its end and return its log."""
    spec = builders.a_pod("python3", "-c", code, image=image, restartPolicy="Never", **pod)
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    path = f"{namespace.name}/{name}"
    seen = namespace.until(
        lambda seen: seen.get(path, {}).get("status", {}).get("phase") in {"Succeeded", "Failed"},
        "pods",
        expected=f"pod {name} ends",
        deadline=120,
    )
    log = namespace.text("logs", name)
    assert seen[path]["status"]["phase"] == "Succeeded", log
    return log


def pod_of(namespace: Namespace, app: str) -> dict[str, Any]:
    items = namespace.get("pods", f"--selector=app={app}")["items"]
    (pod,) = [one for one in items if "deletionTimestamp" not in one["metadata"]]
    return dict(pod)


@contextlib.contextmanager
def port_forwarded(namespace: Namespace, target: str) -> Iterator[str]:
    command = namespace.kubectl.command("port-forward", f"--namespace={namespace.name}", target, ":8000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert select.select([child.stdout], [], [], 30)[0], "port-forward printed nothing"
            yield child.stdout.readline().split()[2]  # Forwarding from 127.0.0.1:41234 -> 8000
        finally:
            child.terminate()


def test_restricted_deployment_serves_by_name_and_survives_a_restart(node: Cluster, node_namespace: Namespace) -> None:
    image = node.images["base"]
    pod = builders.a_pod("python3", "-c", SERVE, image=image, claim="data", port=8000)
    pod["containers"][0]["workingDir"] = "/data"
    node_namespace.apply(builders.a_claim(), builders.a_deployment("web", pod), builders.a_service("web", 8000))
    node_namespace.until_available("web")
    first = pod_of(node_namespace, "web")["metadata"]["name"]

    by_name = fetch(f"http://web.{node_namespace.name}.svc.cluster.local/starts")
    assert first in run_once(node_namespace, image, "asks-by-name", by_name)
    assert first in run_once(node_namespace, image, "asks-by-short-name", fetch("http://web/starts"))
    assert "serving" in node_namespace.text("logs", "deployment/web")
    assert node_namespace.text("exec", "deployment/web", "--", "cat", "/data/starts").split() == [first]
    with port_forwarded(node_namespace, "deployment/web") as address:
        answer = urllib.request.urlopen(f"http://{address}/starts", timeout=20).read().decode()
        assert answer.split() == [first]

    node_namespace.text("delete", "pod", first)
    node_namespace.until_available("web")
    second = pod_of(node_namespace, "web")["metadata"]["name"]
    assert second != first
    assert node_namespace.text("exec", "deployment/web", "--", "cat", "/data/starts").split() == [first, second]


def test_volume_returns_to_the_pool_with_its_claim(node: Cluster, node_namespace: Namespace) -> None:
    image = node.images["base"]
    node_namespace.apply(builders.a_claim())
    spec = builders.a_pod("python3", "-c", "open('/data/x','w')", image=image, claim="data", restartPolicy="Never")
    node_namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": spec})
    path = f"{node_namespace.name}/data"
    seen = node_namespace.until(
        lambda seen: seen.get(path, {}).get("status", {}).get("phase") == "Bound",
        "persistentvolumeclaims",
        expected="the claim is bound",
    )
    volume = seen[path]["spec"]["volumeName"]
    node_namespace.text("delete", "pod/once", "persistentvolumeclaim/data")
    node.kubectl.until(
        lambda seen: (
            volume not in seen
            and sum(one["status"].get("phase") == "Available" for one in seen.values()) == volumes.SPARE
        ),
        "persistentvolumes",
        deadline=90,
        expected=f"{volume} is deleted and the pool is full again",
    )


def test_nothing_leaves_the_cluster(node: Cluster, node_namespace: Namespace) -> None:
    code = """
import socket
for address in ("198.51.100.1", "10.0.2.2", "192.0.2.7"):
    try:
        socket.create_connection((address, 80), timeout=2); print("REACHED", address)
    except OSError as fault:
        print(type(fault).__name__, fault.errno)
try:
    print("RESOLVED", socket.getaddrinfo("example.org", 80))
except socket.gaierror as fault:
    print("no such name")
"""
    log = run_once(node_namespace, node.images["base"], "tries-to-leave", code)
    unreachable = {f"OSError {errno.ENETUNREACH}", f"OSError {errno.EHOSTUNREACH}"}
    *tries, name = log.splitlines()
    assert len(tries) == 3
    # The kernel reports that there is no route; not every time, since it limits these messages.
    assert unreachable & set(tries)
    assert set(tries) <= {*unreachable, "TimeoutError None"}
    assert name == "no such name"


def test_kubelet_accepts_only_the_api_server(node: Cluster, node_namespace: Namespace) -> None:
    address = node.kubectl.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    code = f"""
import ssl, urllib.error, urllib.request
unchecked = ssl._create_unverified_context()
token = open("/var/run/secrets/kubernetes.io/serviceaccount/token").read()
for headers in ({{}}, {{"Authorization": "Bearer " + token}}):
    for path in ("pods", "metrics", "logs/", "run/x/y/z"):
        request = urllib.request.Request(f"https://{address}:10250/{{path}}", headers=headers)
        try:
            print("ANSWERED", urllib.request.urlopen(request, timeout=10, context=unchecked).status)
        except urllib.error.HTTPError as error:
            print("rejected", error.code)
import socket
try:
    socket.create_connection(("{address}", 10255), timeout=3); print("ANSWERED on the read-only port")
except OSError:
    print("no read-only port")
"""
    log = run_once(node_namespace, node.images["base"], "asks-the-kubelet", code, automountServiceAccountToken=True)
    # Without a token the kubelet answers 401; with a service account's token 403.
    assert log.splitlines() == ["rejected 401"] * 4 + ["rejected 403"] * 4 + ["no read-only port"]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_pods_survive_a_dead_component_whose_cause_is_one_line(node: Cluster, node_namespace: Namespace) -> None:
    state = node.kubeconfig.parent
    before = json.loads((state / "components.json").read_text())["kube-scheduler"]
    holder = json.loads((state / "holder.json").read_text())["pid"]
    (scheduler,) = [pid for pid in inspection.processes(holder) if command_of(pid) == "kube-scheduler"]
    os.kill(scheduler, signal.SIGKILL)
    node_namespace.apply(builders.a_deployment("late", builders.a_pod("sleep", "1000", image=node.images["base"])))
    node_namespace.until_available("late")
    after = json.loads((state / "components.json").read_text())["kube-scheduler"]
    assert after["restarts"] == before["restarts"] + 1
    assert after["causes"][-1].startswith("kube-scheduler was killed by SIGKILL: ")
    assert "\n" not in after["causes"][-1]
    assert "kube-scheduler was killed by SIGKILL" in (state / "logs" / "supervisor.log").read_text()


def test_storage_class_of_the_node_is_the_default(node: Cluster) -> None:
    (one,) = node.kubectl.get("storageclasses")["items"]
    assert one["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert kubectl_client.condition(node.kubectl.get("nodes")["items"][0], "Ready") == "True"


def test_second_cluster_with_a_node_does_not_disturb_the_first(
    node: Cluster, node_namespace: Namespace, tmp_path: Path
) -> None:
    sleeper = builders.a_pod("sleep", "1000", image=node.images["base"])
    node_namespace.apply(builders.a_deployment("mine", sleeper))
    node_namespace.until_available("mine")
    holder = (node.kubeconfig.parent / "holder.json").read_text()
    before = pod_of(node_namespace, "mine")
    with clusters.running(clusters.BARE_NODE, clusters.unique_paths(tmp_path)) as second:
        theirs = namespaces.create(second, "second")
        theirs.apply(builders.a_deployment("mine", sleeper))
        theirs.until_available("mine")
        assert pod_of(theirs, "mine")["metadata"]["uid"] != before["metadata"]["uid"]
    assert (node.kubeconfig.parent / "holder.json").read_text() == holder
    after = pod_of(node_namespace, "mine")
    assert (after["metadata"]["uid"], kubectl_client.condition(after, "Ready")) == (before["metadata"]["uid"], "True")
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_helm_installs_by_the_exported_kubeconfig(node: Cluster, node_namespace: Namespace, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 1.2.3\n")
    (chart / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiny}\ndata: {release: {{ .Release.Name }}}\n"
    )
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": str(node.kubeconfig)}
    command = [str(node.programs["helm"]), "install", "one", str(chart), f"--namespace={node_namespace.name}"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert node_namespace.get("configmap", "tiny")["data"] == {"release": "one"}
