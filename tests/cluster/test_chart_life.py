"""The chart on a real API server: install, upgrade, uninstall, the operator's rights, and the fence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from aether_cli import installer, kubectl_client, problems, progress
from aether_cli.local import manifests
from aether_testing import wait
from aether_testing.cluster import charts, clusters
from aether_testing.cluster.charts import CHART, NAME, OPERATOR_NAMESPACE, PLATFORM_NAMESPACE, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster

ACCOUNT: Final = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{NAME}"
Object = dict[str, Any]
TWO: Final[Object] = {"replicas": 2}
"""Given every time: without values, Helm keeps those of the previous release."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for this file alone: the chart has cluster-scoped objects."""
    with clusters.running(clusters.WITH_KWOK, clusters.unique_paths(tmp_path_factory.mktemp("chart"))) as one:
        yield one


@pytest.fixture
def helm(own: Cluster) -> installer.Helm:
    return installer.Helm(program=charts.helm(), kubectl=own.kubectl)


@pytest.fixture
def installed(helm: installer.Helm) -> installer.Helm:
    """Install the chart; its Deployment is available, since kwok reports it so: no program runs."""
    installer.install(helm, CHART, progress.TerminalReporter(), given=TWO)
    return helm


def everything(kubectl: kubectl_client.Kubectl) -> set[str]:
    """Every object except events, as namespace, kind and name."""
    kinds = set(kubectl.text("api-resources", "--verbs=list", "-o", "name").split())
    kinds -= {"events", "events.events.k8s.io", "componentstatuses"}
    listed = kubectl.get(",".join(sorted(kinds)), "--all-namespaces")["items"]
    return {f"{one['metadata'].get('namespace', '')} {one['kind']} {one['metadata']['name']}" for one in listed}


def a_platform(name: str) -> Object:
    return {
        "apiVersion": "trading.aether.io/v1alpha1",
        "kind": "TradingPlatform",
        "metadata": {"name": name, "namespace": PLATFORM_NAMESPACE},
        "spec": {},
    }


def uninstall(helm: installer.Helm) -> None:
    helm.text("uninstall", NAME, f"--namespace={OPERATOR_NAMESPACE}", "--ignore-not-found")
    workloads = ("deployment", "replicasets", "pods", "endpointslices")
    wait.until(
        lambda: not helm.kubectl.get(",".join(workloads), f"--namespace={OPERATOR_NAMESPACE}")["items"],
        "nothing of the operator is left",
    )


def test_uninstall_leaves_crds_the_fence_and_user_objects(installed: installer.Helm) -> None:
    helm = installed
    uninstall(helm)
    before = everything(helm.kubectl)
    installer.install(helm, CHART, progress.SilentReporter(), given=TWO)
    helm.kubectl.apply(a_platform("kept"))
    uninstall(helm)
    kept = {
        "CustomResourceDefinition",
        "APIService",  # the API server's own, for the kinds
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    left = everything(helm.kubectl) - before
    assert {one for one in left if one.split()[0] not in kept} == {f"{PLATFORM_NAMESPACE} TradingPlatform kept"}
    assert "CustomResourceDefinition tradingplatforms.trading.aether.io" in {one.strip() for one in before | left}

    # Without --take-ownership: objects that stayed still have Helm's labels, so Helm adopts them.
    helm.text("upgrade", NAME, CHART, "--install", f"--namespace={OPERATOR_NAMESPACE}")
    assert (
        helm.kubectl.get("tradingplatform", "kept", f"--namespace={PLATFORM_NAMESPACE}")["metadata"]["name"] == "kept"
    )
    helm.kubectl.text("delete", "tradingplatform", "kept", f"--namespace={PLATFORM_NAMESPACE}")


def test_chart_upgrade_upgrades_the_crds(installed: installer.Helm, tmp_path: Path) -> None:
    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    (path,) = (newer / "files/crds").glob("*tradingplatforms.yaml")
    crd = yaml.safe_load(path.read_text())
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "A newer description."
    path.write_text(yaml.safe_dump(crd))
    installed.text("upgrade", NAME, newer, f"--namespace={OPERATOR_NAMESPACE}")
    live = installed.kubectl.get("crd", "tradingplatforms.trading.aether.io")
    schema = live["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["description"] == "A newer description."


def test_reinstall_reverts_edits_and_restarts_nothing(installed: installer.Helm) -> None:
    kubectl = installed.kubectl
    before = kubectl.get("deployment", NAME, f"--namespace={OPERATOR_NAMESPACE}")["spec"]
    kubectl.text("scale", "deployment", NAME, "--replicas=0", f"--namespace={OPERATOR_NAMESPACE}")
    kubectl.text("delete", "rolebinding", NAME, f"--namespace={PLATFORM_NAMESPACE}")
    installer.install(installed, CHART, progress.SilentReporter(), given=TWO)
    after = kubectl.get("deployment", NAME, f"--namespace={OPERATOR_NAMESPACE}")["spec"]
    assert (after["replicas"], after["template"]) == (before["replicas"], before["template"])
    assert kubectl.get("rolebinding", NAME, f"--namespace={PLATFORM_NAMESPACE}")["roleRef"]["name"] == NAME


def test_pending_release_of_a_killed_upgrade_is_deleted(installed: installer.Helm) -> None:
    kubectl = installed.kubectl
    (newest,) = kubectl.get("secrets", f"--namespace={OPERATOR_NAMESPACE}", f"--selector=name={NAME},status=deployed")[
        "items"
    ]
    release, _, version = newest["metadata"]["name"].rpartition(".v")
    after = str(int(version) + 1)
    half = {
        "apiVersion": "v1", "kind": "Secret", "type": newest["type"], "data": newest["data"],
        "metadata": {
            "name": f"{release}.v{after}", "namespace": OPERATOR_NAMESPACE,
            "labels": {**newest["metadata"]["labels"], "status": "pending-upgrade", "version": after},
        },
    }  # fmt: skip
    kubectl.apply(half)
    installer.delete_pending_releases(kubectl)
    assert installer.install(installed, CHART, progress.SilentReporter(), given=TWO).startswith("aether-operator-")
    pending = kubectl.get("secrets", f"--namespace={OPERATOR_NAMESPACE}", "--selector=status=pending-upgrade")["items"]
    assert pending == []


# ---- `aether up --context`


def up_there(cluster: Cluster, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a kubeconfig that has this cluster, and without a local cluster."""
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "XDG_STATE_HOME": str(home), "COLUMNS": "200"}
    command = [sys.executable, "-m", "aether_cli", "up", "--context", f"aether-{cluster.name}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=env)


def test_up_installs_into_an_existing_cluster_and_starts_none(own: Cluster, tmp_path: Path) -> None:
    charts.helm()  # so that the command does not have to build it
    own.kubectl.text("delete", "namespace", *manifests.NAMESPACES)
    values, home = tmp_path / "values.yaml", tmp_path / "state"
    home.mkdir()
    values.write_text("replicas: 3\n")
    done = up_there(own, home, "--values", str(values), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["namespaces"] == list(manifests.NAMESPACES)
    assert (result["chart"].startswith("aether-operator-"), result["platforms"]) == (True, [])
    for name in manifests.NAMESPACES:
        marks = own.kubectl.get("namespace", name)["metadata"]["labels"]
        assert marks["pod-security.kubernetes.io/enforce"] == "restricted"
    assert own.kubectl.get("deployment", NAME, f"--namespace={OPERATOR_NAMESPACE}")["status"]["availableReplicas"] == 3
    assert own.kubectl.get(installer.PLATFORMS, "--all-namespaces")["items"] == []
    assert list(home.iterdir()) == []

    again = up_there(own, home)
    assert "is installed in aether-system" in again.stdout
    assert "No example applied" in again.stdout
    # Without values those of the previous run apply, so that a repair does not lose the images.
    assert own.kubectl.get("deployment", NAME, f"--namespace={OPERATOR_NAMESPACE}")["spec"]["replicas"] == 3


# ---- rights


def rules(kubectl: kubectl_client.Kubectl, namespace: str) -> set[tuple[str, str, str, str]]:
    """All rights of the operator in a namespace: verb, group, resource, name."""
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    }  # fmt: skip
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{OPERATOR_NAMESPACE}", "system:authenticated")
    who = (f"--as={ACCOUNT}", *(f"--as-group={group}" for group in groups))
    review = json.loads(
        kubectl.text("create", "--filename=-", "--validate=false", "-o", "json", *who, stdin=json.dumps(review))
    )
    assert not review["status"]["incomplete"]
    return {
        (verb, group, resource, name)
        for rule in review["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", [""])
        for resource in rule.get("resources", [])
        for name in rule.get("resourceNames", ["*"])
    }


def test_operator_has_its_rights_only_in_its_namespaces(installed: installer.Helm) -> None:
    anywhere = rules(installed.kubectl, "default")
    assert {resource for _, _, resource, _ in anywhere} <= {
        "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "clustertrustbundles",
    }  # fmt: skip
    roles = [one for one in rendered() if one["kind"] == "Role"]
    for namespace in (PLATFORM_NAMESPACE, OPERATOR_NAMESPACE):
        expected = {
            (verb, group, resource, name)
            for role in roles
            if role["metadata"]["namespace"] == namespace
            for rule in role["rules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for name in rule.get("resourceNames", ["*"])
        }
        assert rules(installed.kubectl, namespace) - anywhere == expected, namespace
    data = {"secrets", "persistentvolumeclaims"}
    here = rules(installed.kubectl, PLATFORM_NAMESPACE)
    assert "delete" not in {verb for verb, _, resource, _ in here if resource in data}


# ---- the fence


class Pod:
    """One of the operator's pods, as a client of the API server."""

    def __init__(self, kubectl: kubectl_client.Kubectl, name: str, uid: str, folder: Path) -> None:
        self.name = name
        bound = (
            "--bound-object-kind=Pod", f"--bound-object-name={name}", f"--bound-object-uid={uid}",
        ) if name else ()  # fmt: skip
        token = kubectl.text("create", "token", NAME, f"--namespace={OPERATOR_NAMESPACE}", *bound).strip()
        assert kubectl.kubeconfig is not None
        config = json.loads(kubectl.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = folder / f"kubeconfig-{name or 'nobody'}"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        self.kubectl = kubectl_client.Kubectl(program=kubectl.program, kubeconfig=path, cache=kubectl.cache)

    def rejection(self, *words: str, thing: Object | None = None) -> str:
        """Why a write is rejected; empty if it is accepted."""
        try:
            self.kubectl.text(*words, "--dry-run=server", stdin=json.dumps(thing) if thing else None)
        except problems.ProgramFailed as rejected:
            return rejected.cause
        return ""

    def applies(self) -> str:
        """Why it may not apply a Secret; empty if it may."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fenced", "namespace": PLATFORM_NAMESPACE}}
        return self.rejection("apply", "--server-side", "--field-manager=aether-operator", "--filename=-", thing=secret)


def pods_of(helm: installer.Helm, folder: Path) -> tuple[Pod, Pod]:
    """The two pods of the Deployment."""
    asked = ("pods", f"--namespace={OPERATOR_NAMESPACE}", f"--selector=app.kubernetes.io/instance={NAME}")
    wait.until(lambda: len(helm.kubectl.get(*asked)["items"]) == 2, "two pods")
    metas = [one["metadata"] for one in helm.kubectl.get(*asked)["items"]]
    one, other = (Pod(helm.kubectl, meta["name"], meta["uid"], folder) for meta in metas)
    return one, other


@pytest.fixture
def pods(installed: installer.Helm, tmp_path: Path) -> tuple[Pod, Pod]:
    return pods_of(installed, tmp_path)


def hold(helm: installer.Helm, identity: str) -> None:
    """Set the Lease's holder."""
    spec = {"holderIdentity": identity, "leaseDurationSeconds": 8} if identity else {}
    helm.kubectl.apply(
        {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": NAME, "namespace": OPERATOR_NAMESPACE}, "spec": spec,
        }
    )  # fmt: skip


def test_the_fence_of_a_second_install_follows_the_lease(installed: installer.Helm, tmp_path: Path) -> None:
    one, _ = pods_of(installed, tmp_path)
    hold(installed, f"{one.name}_a1b2")
    wait.until(lambda: not one.applies(), "the first may")
    uninstall(installed)
    installer.install(installed, CHART, progress.SilentReporter(), given=TWO)
    newer, other = pods_of(installed, tmp_path)
    hold(installed, f"{newer.name}_c3d4")
    wait.until(lambda: not newer.applies() and bool(other.applies()), "the new holder may, the other may not")


def test_only_the_lease_holder_may_write(installed: installer.Helm, pods: tuple[Pod, Pod]) -> None:
    one, other = pods
    hold(installed, f"{one.name}_a1b2")
    wait.until(lambda: not one.applies() and bool(other.applies()), "the first may, the second may not")
    assert f"pod {other.name} does not hold Lease {NAME}: {one.name} does" in other.applies()

    hold(installed, f"{other.name}_c3d4")
    wait.until(lambda: not other.applies(), "the second may")
    assert f"pod {one.name} does not hold Lease {NAME}: {other.name} does" in one.applies()


def test_status_and_deletion_are_fenced_too(installed: installer.Helm, pods: tuple[Pod, Pod]) -> None:
    one, other = pods
    kubectl = installed.kubectl
    kubectl.apply(
        a_platform("fenced"),
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fenced", "namespace": PLATFORM_NAMESPACE},
            "spec": {"ports": [{"port": 1}]},
        },
    )  # fmt: skip
    here = f"--namespace={PLATFORM_NAMESPACE}"
    report = {**a_platform("fenced"), "status": {"observedGeneration": 1}}
    del report["spec"]
    apply = ("apply", "--server-side", "--subresource=status", "--validate=false", "--filename=-")
    hold(installed, f"{one.name}_a1b2")
    wait.until(lambda: not one.applies() and bool(other.applies()), "the first may, the second may not")
    for words, thing in ((apply, report), (("delete", "service", "fenced", here), None)):
        assert one.rejection(*words, thing=thing) == ""
        assert f"pod {other.name} does not hold Lease" in other.rejection(*words, thing=thing)
    kubectl.text("delete", "tradingplatform,service", "fenced", here)


def test_unheld_lease_permits_nobody(installed: installer.Helm, pods: tuple[Pod, Pod], tmp_path: Path) -> None:
    nobody = Pod(installed.kubectl, "", "", tmp_path)
    hold(installed, "")
    wait.until(lambda: all(one.applies() for one in (*pods, nobody)), "none of them may")
    assert f"a token without a pod does not hold Lease {NAME}: nobody does" in nobody.applies()


def test_without_a_lease_other_users_can_still_write(installed: installer.Helm, pods: tuple[Pod, Pod]) -> None:
    hold(installed, f"{pods[0].name}_a1b2")
    wait.until(lambda: bool(pods[1].applies()), "the second may not")
    installed.kubectl.text("delete", "lease", NAME, f"--namespace={OPERATOR_NAMESPACE}")
    wait.until(lambda: not pods[1].applies(), "the API server has observed that the Lease is deleted")
    installed.kubectl.text(
        "create",
        "secret",
        "generic",
        "a-user-s",
        "--dry-run=server",
        "--from-literal=a=b",
        f"--namespace={PLATFORM_NAMESPACE}",
    )


def test_fence_ignores_objects_the_operator_does_not_write(installed: installer.Helm, pods: tuple[Pod, Pod]) -> None:
    hold(installed, f"{pods[0].name}_a1b2")
    wait.until(lambda: bool(pods[1].applies()), "the second may not")
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "some", "namespace": PLATFORM_NAMESPACE},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Some", "action": "Some",
        "reportingController": "trading.aether.io/operator", "reportingInstance": pods[1].name,
        "regarding": {"kind": "Namespace", "name": PLATFORM_NAMESPACE, "namespace": PLATFORM_NAMESPACE},
    }  # fmt: skip
    assert pods[1].rejection("create", "--filename=-", "--validate=false", thing=event) == ""
