"""The harness itself, on a real API server: the audit log as values, and the operator as a process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import problems
from aether_operator.api import labels
from aether_operator.planning import child_kinds
from aether_testing import wait
from aether_testing.cluster import masked_children, namespaces
from aether_testing.processes import installations, operators
from aether_testing.servers.api_proxy import faults
from aether_testing.values import audits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers import counting_proxy

CREATE = ("create", "configmap")


@pytest.fixture
def installation(control_plane: Cluster, namespace: Namespace, tmp_path: Path) -> installations.Installation:
    return installations.prepare(control_plane, namespace, tmp_path)


# ---- the audit log


def test_audit_log_names_each_writer_since_a_mark(control_plane: Cluster, namespace: Namespace) -> None:
    namespace.text(*CREATE, "before")
    mark = audits.mark(control_plane)
    namespace.text(*CREATE, "after")
    namespace.text(*CREATE, "dry", "--dry-run=server")
    nobody = f"--as=system:serviceaccount:{namespace.name}:nobody"
    with pytest.raises(problems.ProgramFailed):
        namespace.text(*CREATE, "refused", nobody)
    here = [one for one in audits.since(control_plane, mark) if one.namespace == namespace.name]
    admin = audits.writes(audits.of(here, "aether-admin"))
    seen = {(one.verb, one.group, one.kind, one.name, one.code) for one in admin if one.resource == "configmaps"}
    assert ("create", "", "configmaps", "after", 201) in seen
    assert "before" not in {name for *_, name, _ in seen}
    assert "dry" not in {name for *_, name, _ in seen}
    (forbidden,) = audits.forbidden(here)
    assert (forbidden.verb, forbidden.resource, forbidden.code) == ("create", "configmaps", 403)
    assert ("", "configmaps", "create") in audits.used(here)


def test_audit_log_counts_lease_writes_only_on_request(control_plane: Cluster, namespace: Namespace) -> None:
    mark = audits.mark(control_plane)
    namespace.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}})
    entries = [one for one in audits.since(control_plane, mark) if one.resource == "leases" and one.name == "a"]
    assert audits.writes(entries) == []
    assert [one.verb for one in audits.writes(entries, leases=True)] == ["patch"]


# ---- the operator


def test_operator_leads_as_its_pod_with_its_own_rights(
    control_plane: Cluster, installation: installations.Installation, proxy: counting_proxy.Proxy
) -> None:
    mark = audits.mark(control_plane)
    with installation.operator(proxy=proxy) as one:
        one.wait_leading()
        proxy.until(lambda now: len(now.watched) > 2, "it watches")
        assert one.http_get("/readyz") == (200, "leading\n")
        assert one.metrics()["aether_operator_leader"] == 1
        holder = installation.namespace.get("lease", installations.NAME)["spec"]["holderIdentity"]
        assert holder.partition("_")[0] == one.name
        assert one.stop() == 0
    assert installation.namespace.get("lease", installations.NAME)["spec"]["holderIdentity"] == ""
    its = audits.of(audits.since(control_plane, mark), installation.account)
    assert {one.pod for one in its} == {f"{installations.NAME}-0"}
    assert audits.forbidden(its) == []
    assert ("coordination.k8s.io", "leases", "update") in audits.used(its)


def test_watches_of_the_operator_can_be_cut_failed_and_stalled(
    installation: installations.Installation, proxy: counting_proxy.Proxy
) -> None:
    with installation.operator(proxy=proxy) as one:
        one.wait_leading()
        everything = len(child_kinds.KINDS) + 2  # platforms and pods
        proxy.until(lambda now: now.watching == everything, "it watches")
        for end in (proxy.cut_watches, lambda: proxy.fail_watches(410), lambda: proxy.fail_watches(500)):
            begun = proxy.watched.total()
            assert end() == everything
            proxy.until(lambda now: now.watched.total() >= begun + everything, "it watches again")  # noqa: B023
            proxy.until(lambda now: now.watching == everything, "everything")
        assert proxy.stall_watches(existing_only=True) == everything
        installation.namespace.apply(a_platform("p"))
        assert proxy.cut_watches() == everything
        proxy.until(lambda now: len(now.writes) > 0, "it receives the platform")


def test_frozen_operator_is_silent_until_thawed_a_killed_one_ends(
    installation: installations.Installation,
) -> None:
    with installation.operator() as one:
        one.wait_logged("standing_by")
        one.freeze()
        assert one.alive
        one.thaw()
        one.wait_leading()
        assert one.http_get("/livez")[0] == 200
        one.kill()
        assert (one.alive, one.wait_exit()) == (False, -signal.SIGKILL)


def test_supervised_operator_is_restarted_after_a_kill(installation: installations.Installation) -> None:
    with installation.operator(supervised=True) as one:
        one.wait_logged("standing_by")
        first = one.pid
        one.kill()
        wait.until(lambda: one.starts == 2 and one.alive, "it lives again")
        one.wait_logged("standing_by")
        assert one.pid != first
    assert not one.alive


def a_platform(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "trading.aether.io/v1alpha1", "kind": "TradingPlatform", "metadata": {"name": name}, "spec": {},
    }  # fmt: skip


@pytest.fixture
def other(
    control_plane: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[installations.Installation]:
    """A second namespace with its own operators."""
    one = namespaces.create(control_plane, request.node.name)
    folder = tmp_path / "other"
    folder.mkdir()
    yield installations.prepare(control_plane, one, folder)
    one.text("delete", "namespace", one.name, "--wait=false")


def test_operator_killed_around_each_write_reaches_the_same_end_state(
    installation: installations.Installation, other: installations.Installation, proxy: counting_proxy.Proxy
) -> None:
    other.namespace.apply(a_platform("p"))
    with other.operator() as alone:
        alone.wait_leading()
        wait.until(lambda: alone.written() > 0, "it writes")
        operators.wait_settled(alone)
    wanted = masked_children.of(other.namespace)
    assert wanted

    with installation.operator(proxy=proxy, supervised=True, releases_lease=True) as one:
        proxy.at(3, faults.KillBefore(one.kill))
        proxy.at(5, faults.KillAfter(one.kill))
        installation.namespace.apply(a_platform("p"))
        proxy.until(lambda now: not now.planned, "both faults happened")
        operators.wait_settled(one)
        assert one.starts == 3
        assert [write.code is None for write in proxy.writes[:6]] == [False, False, True, False, False, False]
    assert masked_children.of(installation.namespace) == wanted
    kept = {name for name, child in wanted.items() if "ownerReferences" not in child["metadata"]}
    assert {name.split()[0] for name in kept} == {"Secret", "PersistentVolumeClaim"}
    for child in wanted.values():
        if child["kind"] == "Secret":
            name = child["metadata"]["name"]
            assert child["data"]["password"] == f"<password of {name}>"
            assert child["metadata"]["annotations"][labels.CREDENTIALS] == f"<hash of {name}>"
