"""The life of a cluster: up, up again, killed, repaired, down; and the machine is unchanged afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_cli import kubectl_client, problems, progress
from aether_cli.local import inspection, startup, supervisor_process
from aether_testing.cluster import clusters, machines, namespaces
from aether_testing.values import builders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local import paths

QUIET = progress.SilentReporter()
NODE = replace(clusters.BARE_NODE, owned=False, durable=True)


@pytest.fixture
def at(machine: machines.Machine, tmp_path: Path) -> Iterator[paths.Paths]:  # noqa: ARG001 - the machine is compared around it
    one = clusters.unique_paths(tmp_path)
    yield one
    startup.down(one, QUIET, purge=True)


def until_started_again(namespace: namespaces.Namespace) -> None:
    """The API still has the pods' status of the previous run: wait for a restarted container."""

    def again(pod: dict[str, Any]) -> bool:
        statuses = pod["status"].get("containerStatuses", [])
        return kubectl_client.condition(pod, "Ready") == "True" and all(one["restartCount"] > 0 for one in statuses)

    namespace.until(
        lambda seen: bool(seen) and all(again(pod) for pod in seen.values()), "pods", expected="the pods run again"
    )


def test_down_restores_the_machine_and_keeps_user_data(machine: machines.Machine, at: paths.Paths) -> None:
    before = machine.snapshot(at.name)
    cluster = startup.up(at, NODE, QUIET)
    namespace = namespaces.create(cluster, "life")
    image = cluster.images["base"]
    write = builders.a_pod("sh", "-c", "echo kept > /data/file && sleep 1000", image=image, claim="data")
    namespace.apply(builders.a_claim(), builders.a_deployment("writer", write))
    namespace.until_available("writer")
    assert machine.snapshot(at.name).changes_since(before)  # otherwise the comparison proves nothing
    assert machines.reachable(supervisor_process.require(at).supervisor) == set()

    assert startup.down(at, QUIET)
    assert machine.snapshot(at.name).changes_since(before) == {}
    assert "did not end" not in (at.logs / "supervisor.log").read_text()
    assert not startup.down(at, QUIET)

    startup.up(at, NODE, QUIET)
    until_started_again(namespace)
    assert namespace.text("exec", "deployment/writer", "--", "cat", "/data/file") == "kept\n"
    startup.down(at, QUIET, purge=True)
    assert machine.snapshot(at.name).changes_since(before) == {}
    assert not at.state.exists()
    assert not at.volumes.exists()
    assert list(at.cache.glob("bin/kubectl-*"))


OTHER_KUBERNETES: Final = """
import pathlib, subprocess, sys
from aether_testing.cluster import clusters

TRACES = ("ip link add cni0 type bridge", "ip route add blackhole 10.244.0.0/16", "iptables -N KUBE-SERVICES",
    "sysctl -q net.ipv4.ip_forward=1", "mkdir -p /etc/kubernetes /opt/cni", "mount -t tmpfs tmpfs /mnt")
sys.stdin.readline()
with clusters.running(clusters.CONTROL_PLANE, clusters.unique_paths(pathlib.Path(sys.argv[1]))):
    for one in TRACES:
        subprocess.run(one.split(), check=True)
    print("up", flush=True)
    sys.stdin.readline()
print("down", flush=True)
sys.stdin.readline()
"""
"""Another Kubernetes, which leaves traces everywhere as Kubernetes does."""


def test_other_kubernetes_on_the_machine_does_not_disturb_the_comparison(tmp_path: Path) -> None:
    # It is isolated as well, so that the real machine stays clean.
    with machines.isolated(tmp_path / "theirs") as theirs:
        them = theirs.snapshot("under-test")
        command = [sys.executable, "-c", OTHER_KUBERNETES, str(tmp_path / "stranger")]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with (
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            ) as stranger,
            machines.isolated(tmp_path / "ours") as ours,
        ):
            assert stranger.stdin is not None
            assert stranger.stdout is not None
            before = ours.snapshot("under-test")
            for line in ("up", "down"):
                stranger.stdin.write("\n")
                stranger.stdin.flush()
                assert stranger.stdout.readline() == f"{line}\n"
                assert ours.snapshot("under-test").changes_since(before) == {}, line
            stranger.stdin.close()
        seen = theirs.snapshot("under-test").changes_since(them)
    assert set(seen) == {"links", "routes", "rules", "kernel_settings", "files", "mounts"}, seen


def test_up_on_a_running_cluster_changes_nothing(at: paths.Paths) -> None:
    first = startup.up(at, replace(NODE, profile=clusters.CONTROL_PLANE.profile), QUIET)
    holder = supervisor_process.require(at)
    second = startup.up(at, replace(NODE, profile=clusters.CONTROL_PLANE.profile), QUIET)
    assert (first.started, second.started) == (True, False)
    assert supervisor_process.require(at).pid == holder.pid
    assert second.server == first.server


def test_other_settings_for_a_running_cluster_are_rejected_by_name(at: paths.Paths) -> None:
    startup.up(at, clusters.CONTROL_PLANE, QUIET)
    with pytest.raises(problems.BadInput, match=r"egress: the cluster runs with egress False"):
        startup.up(at, replace(clusters.CONTROL_PLANE, egress=True), QUIET)


def test_killing_unshare_leaves_nothing_running_and_up_repairs(machine: machines.Machine, at: paths.Paths) -> None:
    before = machine.snapshot(at.name)
    cluster = startup.up(at, NODE, QUIET)
    namespace = namespaces.create(cluster, "healed")
    sleeper = builders.a_pod("sleep", "1000", image=cluster.images["base"])
    namespace.apply(builders.a_deployment("sleeper", sleeper))
    namespace.until_available("sleeper")

    supervisor_process.stop(supervisor_process.require(at), gently=False, deadline=0)
    left = machine.snapshot(at.name).changes_since(before)
    assert set(left) <= {"control_groups"}, left

    healed = startup.up(at, NODE, QUIET)
    assert healed.started
    until_started_again(namespace)
    startup.down(at, QUIET)
    assert machine.snapshot(at.name).changes_since(before) == {}


def test_killing_process_1_of_the_namespaces_leaves_nothing_running(machine: machines.Machine, at: paths.Paths) -> None:
    before = machine.snapshot(at.name)
    startup.up(at, clusters.CONTROL_PLANE, QUIET)
    holder = supervisor_process.require(at)
    watched = os.pidfd_open(holder.pid)
    os.kill(holder.supervisor, signal.SIGKILL)
    assert supervisor_process.wait_for_exit(watched, 10)
    os.close(watched)
    assert machine.snapshot(at.name).changes_since(before) == {}


def test_an_owned_cluster_ends_with_the_process_that_started_it(at: paths.Paths, tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path / "data")}
    code = f"""
import os, sys
os.environ.update({home!r})
from aether_testing.cluster import clusters
from aether_cli import progress
from aether_cli.local import paths, startup
startup.up(paths.for_cluster({at.name!r}, os.environ), clusters.CONTROL_PLANE, progress.SilentReporter())
print("up", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        watched = os.pidfd_open(supervisor_process.require(at).pid)
        owner.kill()
    assert supervisor_process.wait_for_exit(watched, 10)
    os.close(watched)


def test_port_in_use_is_rejected_before_any_change(at: paths.Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(problems.NotPossibleHere, match=f"port: 127.0.0.1:{port} is in use"):
            startup.up(at, replace(clusters.CONTROL_PLANE, port=port), QUIET)
    assert not at.state.exists()
    assert not at.volumes.exists()


def test_a_component_that_cannot_start_fails_up_with_its_cause(
    machine: machines.Machine, at: paths.Paths, tmp_path: Path
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    broken = assets / "etcd"
    broken.write_text("#!/bin/sh\necho 'error: this is no etcd' >&2\nexit 7\n")
    broken.chmod(0o755)
    before = machine.snapshot(at.name)
    with pytest.raises(problems.NotReady, match="etcd ended with 7: error: this is no etcd"):
        startup.up(at, clusters.CONTROL_PLANE, QUIET, {**os.environ, "KUBEBUILDER_ASSETS": str(assets)})
    assert machine.snapshot(at.name).changes_since(before) == {}


def test_status_is_a_page_or_json(at: paths.Paths, tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def aether(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aether_cli", *words, "--name", at.name],
            capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **home},
        )  # fmt: skip

    assert aether("status").returncode == problems.NotRunning.exit_code
    startup.up(at, clusters.CONTROL_PLANE, QUIET)
    page = aether("status")
    assert page.returncode == 0, page.stdout + page.stderr
    assert "kube-apiserver" in page.stdout
    status = json.loads(aether("status", "--json").stdout)
    assert {one["name"] for one in status["cluster"]["components"]} >= {"etcd", "kube-apiserver", "api-port"}
    assert status["cluster"]["memory_bytes"] == pytest.approx(
        inspection.memory(supervisor_process.require(at).pid), rel=0.5
    )
    assert "kube-apiserver" in aether("logs").stdout
    assert aether("logs", "etcd", "--lines", "1").stdout.count("\n") <= 1
    missing = aether("logs", "nonsense")
    assert (missing.returncode, "no component 'nonsense'" in missing.stderr) == (2, True)
    stopped = json.loads(aether("down", "--json").stdout)
    assert (stopped["stopped"], stopped["purged"]) == (True, False)


def test_machine_without_the_programs_is_rejected_before_any_change(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("unshare", "ip", "mount"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "aether_cli", "up", "--port", "0"],
        capture_output=True, text=True, check=False, timeout=60, env={"PATH": str(programs), "HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == problems.NotPossibleHere.exit_code
    assert "packages: buildah, containerd, ctr, mmdebstrap, nsenter, setpriv not found" in done.stderr
    assert "apt-get install buildah containerd mmdebstrap util-linux" in done.stderr
    assert list(home.iterdir()) == []


def test_of_two_concurrent_ups_one_starts_the_cluster(at: paths.Paths, tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path / "data")}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = ["up", "--json", "--profile", "control-plane", "--port", port, "--name", at.name]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "aether_cli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **home},
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert sorted(json.loads(out)["started"] for out, _ in outputs) == [False, True]
