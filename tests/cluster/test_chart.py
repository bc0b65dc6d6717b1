"""The chart: what it renders, what it refuses, what it leaves, what its operator may do, and the fence around that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from aether_cli import asking, installing, problems, running, telling
from aether_cli.local import binaries, building, manifests, places
from aether_operator.api import labels
from aether_operator.api.platforms import Server
from aether_operator.catalog import releases
from aether_testing import clusters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_cli.local.starting import Cluster

TOP: Final = Path(__file__).resolve().parents[2]
CHART: Final = TOP / "helm/aether-operator"
SYSTEM, DESK = manifests.NAMESPACES
NAME: Final = installing.RELEASE
ACCOUNT: Final = f"system:serviceaccount:{SYSTEM}:{NAME}"
DEADLINE: Final = 30.0
Thing = dict[str, Any]
TWO: Final[Thing] = {"replicas": 2}
"""Said every time: without values, Helm keeps those of the time before."""


@pytest.fixture(scope="session")
def program() -> Path:
    """Helm, as the local cluster has it."""
    (ours,) = [binary for binary in binaries.NODE if binary.name == "helm"]
    cache = places.of("aether", os.environ).cache
    return building.ensure((ours,), cache, os.environ, telling.ToTerminal())["helm"]


def rendered(program: Path, *words: str, values: Thing | None = None) -> list[Thing]:
    """What the chart becomes."""
    text = running.run(
        [program, "template", NAME, CHART, f"--namespace={SYSTEM}", "--values=-", *words],
        stdin=json.dumps(values or {}),
    )
    return [one for one in yaml.safe_load_all(text) if one]


def only(things: list[Thing], kind: str, name: str = "") -> Thing:
    (one,) = [one for one in things if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return one


def pod_of(things: list[Thing]) -> Thing:
    spec: Thing = only(things, "Deployment")["spec"]["template"]
    return spec


def config_of(things: list[Thing]) -> Thing:
    config: Thing = json.loads(only(things, "ConfigMap")["data"]["config.json"])
    return config


def release_of(things: list[Thing]) -> releases.Release:
    return releases.Release.model_validate(config_of(things)["release"])


# ---- what it renders


def test_helm_has_nothing_to_say_against_it(program: Path) -> None:
    assert "0 chart(s) failed" in running.run([program, "lint", "--strict", CHART])


def test_a_package_of_it_has_the_kinds(program: Path, tmp_path: Path) -> None:
    running.run([program, "package", CHART, f"--destination={tmp_path}"])
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as opened:
        names = opened.getnames()
    assert {f"aether-operator/files/crds/{path.name}" for path in (CHART / "files/crds").iterdir()} < set(names)
    assert "aether-operator/values.schema.json" in names


def test_the_kinds_are_rendered_as_they_are_and_kept(program: Path) -> None:
    crds = [one for one in rendered(program) if one["kind"] == "CustomResourceDefinition"]
    written = [yaml.safe_load(path.read_text()) for path in sorted((TOP / "crds/v1alpha1").glob("*.yaml"))]
    assert [one["spec"] for one in crds] == [one["spec"] for one in written]
    assert [one["metadata"]["name"] for one in crds] == [one["metadata"]["name"] for one in written]
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in crds} == {"keep"}


def test_the_kinds_can_be_left_to_somebody_else(program: Path) -> None:
    kinds = {one["kind"] for one in rendered(program, values={"crds": {"install": False}})}
    assert "CustomResourceDefinition" not in kinds
    assert "Deployment" in kinds


def test_nothing_of_the_whole_cluster_but_the_kinds_and_the_fence(program: Path) -> None:
    things = rendered(program)
    assert {one["kind"] for one in things if "namespace" not in one["metadata"]} == {
        "CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip


def test_two_releases_share_no_name_of_the_whole_cluster(program: Path) -> None:
    def wide(*words: str) -> set[str]:
        text = running.run([program, "template", *words, CHART, "--set", "crds.install=false"])
        things = [one for one in yaml.safe_load_all(text) if one]
        return {one["metadata"]["name"] for one in things if "namespace" not in one["metadata"]}

    assert wide("one", "--namespace=a").isdisjoint(wide("one", "--namespace=b"))
    assert wide("one", "--namespace=a").isdisjoint(wide("two", "--namespace=a"))


EVERYWHERE: Final[Thing] = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "desk", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
    "priorityClassName": "trading",
    "extraLabels": {"cost-centre": "42", "example.com/team": "desk"},
}


def test_where_pods_may_be_holds_for_the_operator_s_and_for_the_data_plane_s(program: Path) -> None:
    things = rendered(program, values=EVERYWHERE)
    spec, release = pod_of(things)["spec"], release_of(things)
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"):
        assert spec[key] == EVERYWHERE[key]
    assert pod_of(things)["metadata"]["labels"].items() >= EVERYWHERE["extraLabels"].items()
    assert release.image_pull_secrets == ("registry",)
    assert release.node_selector == EVERYWHERE["nodeSelector"]
    assert list(release.tolerations) == EVERYWHERE["tolerations"]
    assert release.priority_class_name == "trading"
    assert release.extra_labels == EVERYWHERE["extraLabels"]
    assert release.operator_namespace == SYSTEM


def test_what_is_the_operator_s_alone_is_on_its_pods(program: Path) -> None:
    affinity: Thing = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    image = {"repository": "registry.example/aether/operator", "tag": "7", "pullPolicy": "Always"}
    things = rendered(
        program,
        values={
            "affinity": affinity, "resources": resources, "image": image, "replicas": 3,
            "podAnnotations": {"a": "b"}, "serviceAccount": {"annotations": {"c": "d"}},
        },
    )  # fmt: skip
    (container,) = pod_of(things)["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example/aether/operator:7", "Always")
    assert container["resources"] == resources
    assert pod_of(things)["spec"]["affinity"] == affinity
    assert pod_of(things)["metadata"]["annotations"]["a"] == "b"
    assert only(things, "Deployment")["spec"]["replicas"] == 3
    assert only(things, "ServiceAccount")["metadata"]["annotations"] == {"c": "d"}


def test_the_operator_s_pods_say_where_their_metrics_are_unless_somebody_says_otherwise(program: Path) -> None:
    def annotations(**values: Any) -> Thing:
        found: Thing = pod_of(rendered(program, values=values))["metadata"]["annotations"]
        return {key: value for key, value in found.items() if key.startswith("prometheus.io/")}

    (port,) = pod_of(rendered(program))["spec"]["containers"][0]["ports"]
    usual = {"scrape": "true", "port": str(port["containerPort"]), "path": "/metrics"}
    assert annotations() == {f"prometheus.io/{key}": value for key, value in usual.items()}
    off = {"prometheus.io/scrape": "false"}
    assert annotations(podAnnotations=off) == annotations() | off


def test_a_digest_wins_over_a_tag(program: Path) -> None:
    digest = "sha256:" + "a" * 64
    things = rendered(program, values={"image": {"repository": "r/o", "tag": "7", "digest": digest}})
    assert pod_of(things)["spec"]["containers"][0]["image"] == f"r/o@{digest}"


def test_each_server_s_image_is_the_one_that_is_named_or_that_of_this_version(program: Path) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    release = release_of(rendered(program, values={"dataPlaneImages": {"kafka": "registry.example/kafka:1"}}))
    assert release.images == {
        **{server: f"aether/{server}:{version}" for server in Server},
        Server.KAFKA: "registry.example/kafka:1",
    }


def test_the_rooms_image_is_the_one_that_is_named_or_that_of_this_version(program: Path) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert release_of(rendered(program)).service_image == f"aether/service:{version}"
    named = release_of(rendered(program, values={"serviceImage": "registry.example/service:1"}))
    assert (named.service_image, named.version) == ("registry.example/service:1", "1")


def test_another_configuration_makes_other_pods(program: Path) -> None:
    def checksum(**values: Any) -> str:
        return str(pod_of(rendered(program, values=values))["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum(resources={"limits": {"memory": "1Gi"}})
    assert checksum() != checksum(namespaces=["aether", "other"])


def test_the_operator_s_pods_are_those_that_network_policies_let_in(program: Path) -> None:
    things = rendered(program)
    assert pod_of(things)["metadata"]["labels"].items() >= labels.OPERATOR_POD.items()
    selector = only(things, "Deployment")["spec"]["selector"]["matchLabels"]
    assert only(things, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
    assert only(things, "Service")["spec"]["selector"] == selector


def test_every_namespace_has_the_same_rights_and_the_fence_is_around_all_of_them(program: Path) -> None:
    things = rendered(program, values={"namespaces": ["desk-a", "desk-b"], "createNamespaces": True})
    roles = {one["metadata"]["namespace"]: one["rules"] for one in things if one["kind"] == "Role"}
    assert set(roles) == {"desk-a", "desk-b", SYSTEM}
    assert roles["desk-a"] == roles["desk-b"]
    match = only(things, "ValidatingAdmissionPolicy")["spec"]["matchConstraints"]
    assert match["namespaceSelector"]["matchExpressions"][0]["values"] == ["desk-a", "desk-b"]
    assert config_of(things)["namespaces"] == ["desk-a", "desk-b"]
    made = [one for one in things if one["kind"] == "Namespace"]
    assert [one["metadata"]["name"] for one in made] == ["desk-a", "desk-b"]
    assert {one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for one in made} == {"restricted"}
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in made} == {"keep"}


def test_the_fence_is_around_everything_that_the_operator_may_write(program: Path) -> None:
    things = rendered(program)
    verbs = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}

    def acts(rules: list[Thing], acts: str) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verbs.get(act, act))
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for act in rule[acts]
            if act in verbs or act in verbs.values()
        }

    may = acts(
        next(one for one in things if one["kind"] == "Role" and one["metadata"]["name"] == NAME)["rules"], "verbs"
    )
    fenced = acts(only(things, "ValidatingAdmissionPolicy")["spec"]["matchConstraints"]["resourceRules"], "operations")
    assert may - fenced == {("events.k8s.io", "events", "CREATE"), ("events.k8s.io", "events", "UPDATE")}


# ---- what it refuses


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"namespace": "aether"}, "'namespace' not allowed", id="an unknown value"),
        pytest.param({"namespaces": []}, "/namespaces", id="no namespace"),
        pytest.param({"namespaces": ["a", "a"]}, "/namespaces", id="a namespace twice"),
        pytest.param({"namespaces": ["Not A Name"]}, "/namespaces/0", id="a namespace that cannot be"),
        pytest.param({"namespaces": "aether"}, "/namespaces", id="a text for a list"),
        pytest.param({"replicas": 0}, "/replicas", id="no operator"),
        pytest.param({"replicas": "2"}, "/replicas", id="a text for a number"),
        pytest.param({"image": {"repositry": "x"}}, "/image", id="a slip"),
        pytest.param({"image": {"digest": "sha256:1"}}, "/image/digest", id="half a digest"),
        pytest.param({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", id="a policy"),
        pytest.param({"dataPlaneImages": {"mysql": "x"}}, "/dataPlaneImages", id="a server we do not have"),
        pytest.param({"serviceImage": "not an image"}, "/serviceImage", id="a room's image"),
        pytest.param({"dataPlaneImages": {"nats": "not an image"}}, "/dataPlaneImages/nats", id="an image"),
        pytest.param({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0", id="a text for a secret"),
        pytest.param({"tolerations": [{"effects": "NoSchedule"}]}, "/tolerations/0", id="a toleration"),
        pytest.param({"tolerations": [{"effect": "No"}]}, "/tolerations/0/effect", id="an effect"),
        pytest.param({"nodeSelector": {"a": 1}}, "/nodeSelector/a", id="a number for a label"),
        pytest.param({"extraLabels": {"app.kubernetes.io/name": "x"}}, "/extraLabels", id="a label that selects"),
        pytest.param({"extraLabels": {f"{labels.PLATFORM}": "x"}}, "/extraLabels", id="a label of ours"),
        pytest.param({"priorityClassName": "A B"}, "/priorityClassName", id="a priority class"),
        pytest.param({"resources": {"limit": {}}}, "/resources", id="resources"),
        pytest.param({"resources": {"limits": {"memory": "much"}}}, "/resources/limits/memory", id="a quantity"),
        pytest.param({"affinity": {"node": {}}}, "/affinity", id="an affinity"),
        pytest.param({"crds": {"install": "yes"}}, "/crds/install", id="a text for a truth"),
        pytest.param({"createNamespaces": 1}, "/createNamespaces", id="a number for a truth"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(program: Path, values: Thing, named: str) -> None:
    with pytest.raises(problems.ProgramFailed) as refused:
        rendered(program, values=values)
    assert named in str(refused.value)


# ---- its life, on a real API server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for this file alone: what is installed here holds for all of it."""
    with clusters.running(clusters.WITH_KWOK, clusters.some_places(tmp_path_factory.mktemp("chart"))) as one:
        yield one


@pytest.fixture
def helm(own: Cluster, program: Path) -> installing.Helm:
    return installing.Helm(program=program, kubectl=own.kubectl)


@pytest.fixture
def installed(helm: installing.Helm) -> installing.Helm:
    """The chart is there, and its operator is available: kwok says so, no program runs."""
    installing.install(helm, CHART, telling.ToTerminal(), given=TWO)
    return helm


def until(holds: Callable[[], bool], wish: str) -> None:
    ends = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < ends, wish


def everything(kubectl: asking.Kubectl) -> set[str]:
    """Every object there is but events, each as namespace, kind and name."""
    kinds = set(kubectl.text("api-resources", "--verbs=list", "-o", "name").split())
    kinds -= {"events", "events.events.k8s.io", "componentstatuses"}
    listed = kubectl.get(",".join(sorted(kinds)), "--all-namespaces")["items"]
    return {f"{one['metadata'].get('namespace', '')} {one['kind']} {one['metadata']['name']}" for one in listed}


def a_platform(name: str) -> Thing:
    return {
        "apiVersion": "trading.aether.io/v1alpha1",
        "kind": "TradingPlatform",
        "metadata": {"name": name, "namespace": DESK},
        "spec": {},
    }


def uninstall(helm: installing.Helm) -> None:
    helm.text("uninstall", NAME, f"--namespace={SYSTEM}", "--ignore-not-found")
    gone = ("deployment", "replicasets", "pods", "endpointslices")
    until(
        lambda: not helm.kubectl.get(",".join(gone), f"--namespace={SYSTEM}")["items"],
        "nothing of the operator is left",
    )


def test_an_uninstall_leaves_the_kinds_the_fence_and_what_people_made(installed: installing.Helm) -> None:
    helm = installed
    uninstall(helm)
    before = everything(helm.kubectl)
    installing.install(helm, CHART, telling.ToNobody(), given=TWO)
    helm.kubectl.apply(a_platform("kept"))
    uninstall(helm)
    kept = {
        "CustomResourceDefinition",
        "APIService",  # the API server's own, for the kinds
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    left = everything(helm.kubectl) - before
    assert {one for one in left if one.split()[0] not in kept} == {f"{DESK} TradingPlatform kept"}
    assert "CustomResourceDefinition tradingplatforms.trading.aether.io" in {one.strip() for one in before | left}

    # Without --take-ownership, as a person would: what stayed is Helm's to take up again.
    helm.text("upgrade", NAME, CHART, "--install", f"--namespace={SYSTEM}")
    assert helm.kubectl.get("tradingplatform", "kept", f"--namespace={DESK}")["metadata"]["name"] == "kept"
    helm.kubectl.text("delete", "tradingplatform", "kept", f"--namespace={DESK}")


def test_an_upgrade_upgrades_the_kinds(installed: installing.Helm, tmp_path: Path) -> None:
    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    (path,) = (newer / "files/crds").glob("*tradingplatforms.yaml")
    crd = yaml.safe_load(path.read_text())
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "A newer description."
    path.write_text(yaml.safe_dump(crd))
    installed.text("upgrade", NAME, newer, f"--namespace={SYSTEM}")
    live = installed.kubectl.get("crd", "tradingplatforms.trading.aether.io")
    schema = live["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["description"] == "A newer description."


def test_installing_again_mends_what_was_edited_and_rolls_nothing(installed: installing.Helm) -> None:
    kubectl = installed.kubectl
    before = kubectl.get("deployment", NAME, f"--namespace={SYSTEM}")["spec"]
    kubectl.text("scale", "deployment", NAME, "--replicas=0", f"--namespace={SYSTEM}")
    kubectl.text("delete", "rolebinding", NAME, f"--namespace={DESK}")
    installing.install(installed, CHART, telling.ToNobody(), given=TWO)
    after = kubectl.get("deployment", NAME, f"--namespace={SYSTEM}")["spec"]
    assert (after["replicas"], after["template"]) == (before["replicas"], before["template"])
    assert kubectl.get("rolebinding", NAME, f"--namespace={DESK}")["roleRef"]["name"] == NAME


def test_an_upgrade_that_was_killed_half_way_is_forgotten(installed: installing.Helm) -> None:
    kubectl = installed.kubectl
    (newest,) = kubectl.get("secrets", f"--namespace={SYSTEM}", f"--selector=name={NAME},status=deployed")["items"]
    release, _, version = newest["metadata"]["name"].rpartition(".v")
    after = str(int(version) + 1)
    half = {
        "apiVersion": "v1", "kind": "Secret", "type": newest["type"], "data": newest["data"],
        "metadata": {
            "name": f"{release}.v{after}", "namespace": SYSTEM,
            "labels": {**newest["metadata"]["labels"], "status": "pending-upgrade", "version": after},
        },
    }  # fmt: skip
    kubectl.apply(half)
    installing.forget_unfinished(kubectl)
    assert installing.install(installed, CHART, telling.ToNobody(), given=TWO).startswith("aether-operator-")
    pending = kubectl.get("secrets", f"--namespace={SYSTEM}", "--selector=status=pending-upgrade")["items"]
    assert pending == []


# ---- `aether up --context`


def up_there(cluster: Cluster, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as somebody whose kubeconfig has this cluster, and who has no local one."""
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "XDG_STATE_HOME": str(home), "COLUMNS": "200"}
    command = [sys.executable, "-m", "aether_cli", "up", "--context", f"aether-{cluster.name}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=env)


@pytest.mark.usefixtures("program")
def test_up_brings_the_chart_to_a_cluster_of_one_s_own_and_starts_nothing(own: Cluster, tmp_path: Path) -> None:
    own.kubectl.text("delete", "namespace", *manifests.NAMESPACES)
    values, home = tmp_path / "values.yaml", tmp_path / "state"
    home.mkdir()
    values.write_text("replicas: 3\n")
    done = up_there(own, home, "--values", str(values), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["namespaces"] == list(manifests.NAMESPACES)
    assert (told["chart"].startswith("aether-operator-"), told["platforms"]) == (True, [])
    for name in manifests.NAMESPACES:
        marks = own.kubectl.get("namespace", name)["metadata"]["labels"]
        assert marks["pod-security.kubernetes.io/enforce"] == "restricted"
    assert own.kubectl.get("deployment", NAME, f"--namespace={SYSTEM}")["status"]["availableReplicas"] == 3
    assert own.kubectl.get(installing.PLATFORMS, "--all-namespaces")["items"] == []
    assert list(home.iterdir()) == []

    again = up_there(own, home)
    assert "is installed in aether-system" in again.stdout
    assert "No example was applied" in again.stdout
    # Without values those of the last time hold: who heals must not lose where the images are.
    assert own.kubectl.get("deployment", NAME, f"--namespace={SYSTEM}")["spec"]["replicas"] == 3


# ---- rights


def rules(kubectl: asking.Kubectl, namespace: str) -> set[tuple[str, str, str, str]]:
    """Everything that the operator may do there: verb, group, resource, name."""
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    }  # fmt: skip
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated")
    who = (f"--as={ACCOUNT}", *(f"--as-group={group}" for group in groups))
    said = json.loads(
        kubectl.text("create", "--filename=-", "--validate=false", "-o", "json", *who, stdin=json.dumps(review))
    )
    assert not said["status"]["incomplete"]
    return {
        (verb, group, resource, name)
        for rule in said["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", [""])
        for resource in rule.get("resources", [])
        for name in rule.get("resourceNames", ["*"])
    }


def test_the_operator_has_its_rights_in_its_namespaces_and_no_other(installed: installing.Helm, program: Path) -> None:
    anywhere = rules(installed.kubectl, "default")
    assert {resource for _, _, resource, _ in anywhere} <= {
        "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "clustertrustbundles",
    }  # fmt: skip
    roles = [one for one in rendered(program) if one["kind"] == "Role"]
    for namespace in (DESK, SYSTEM):
        said = {
            (verb, group, resource, name)
            for role in roles
            if role["metadata"]["namespace"] == namespace
            for rule in role["rules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for name in rule.get("resourceNames", ["*"])
        }
        assert rules(installed.kubectl, namespace) - anywhere == said, namespace
    data = {"secrets", "persistentvolumeclaims"}
    here = rules(installed.kubectl, DESK)
    assert "delete" not in {verb for verb, _, resource, _ in here if resource in data}


# ---- the fence


class Pod:
    """One of the operator's pods, as the API server sees what it asks for."""

    def __init__(self, kubectl: asking.Kubectl, name: str, uid: str, folder: Path) -> None:
        self.name = name
        bound = (
            "--bound-object-kind=Pod", f"--bound-object-name={name}", f"--bound-object-uid={uid}",
        ) if name else ()  # fmt: skip
        token = kubectl.text("create", "token", NAME, f"--namespace={SYSTEM}", *bound).strip()
        assert kubectl.kubeconfig is not None
        config = json.loads(kubectl.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = folder / f"kubeconfig-{name or 'nobody'}"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        self.kubectl = asking.Kubectl(program=kubectl.program, kubeconfig=path, cache=kubectl.cache)

    def refusal(self, *words: str, thing: Thing | None = None) -> str:
        """Why a write is refused, or nothing."""
        try:
            self.kubectl.text(*words, "--dry-run=server", stdin=json.dumps(thing) if thing else None)
        except problems.ProgramFailed as refused:
            return refused.cause
        return ""

    def applies(self) -> str:
        """Why it may not apply a Secret, or nothing."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fenced", "namespace": DESK}}
        return self.refusal("apply", "--server-side", "--field-manager=aether-operator", "--filename=-", thing=secret)


def pods_of(helm: installing.Helm, folder: Path) -> tuple[Pod, Pod]:
    """The two pods of the Deployment."""
    asked = ("pods", f"--namespace={SYSTEM}", f"--selector=app.kubernetes.io/instance={NAME}")
    until(lambda: len(helm.kubectl.get(*asked)["items"]) == 2, "two pods")
    metas = [one["metadata"] for one in helm.kubectl.get(*asked)["items"]]
    one, other = (Pod(helm.kubectl, meta["name"], meta["uid"], folder) for meta in metas)
    return one, other


@pytest.fixture
def pods(installed: installing.Helm, tmp_path: Path) -> tuple[Pod, Pod]:
    return pods_of(installed, tmp_path)


def hold(helm: installing.Helm, identity: str) -> None:
    """The Lease is this one's."""
    spec = {"holderIdentity": identity, "leaseDurationSeconds": 8} if identity else {}
    helm.kubectl.apply(
        {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": NAME, "namespace": SYSTEM}, "spec": spec,
        }
    )  # fmt: skip


def test_the_fence_of_a_second_install_follows_the_lease(installed: installing.Helm, tmp_path: Path) -> None:
    one, _ = pods_of(installed, tmp_path)
    hold(installed, f"{one.name}_a1b2")
    until(lambda: not one.applies(), "the first may")
    uninstall(installed)
    installing.install(installed, CHART, telling.ToNobody(), given=TWO)
    newer, other = pods_of(installed, tmp_path)
    hold(installed, f"{newer.name}_c3d4")
    until(lambda: not newer.applies() and bool(other.applies()), "the new holder may, the other may not")


def test_only_the_pod_that_holds_the_lease_may_write(installed: installing.Helm, pods: tuple[Pod, Pod]) -> None:
    one, other = pods
    hold(installed, f"{one.name}_a1b2")
    until(lambda: not one.applies() and bool(other.applies()), "the first may, the second may not")
    assert f"pod {other.name} does not hold Lease {NAME}: {one.name} does" in other.applies()

    hold(installed, f"{other.name}_c3d4")
    until(lambda: not other.applies(), "the second may")
    assert f"pod {one.name} does not hold Lease {NAME}: {other.name} does" in one.applies()


def test_status_and_deletion_are_fenced_too(installed: installing.Helm, pods: tuple[Pod, Pod]) -> None:
    one, other = pods
    kubectl = installed.kubectl
    kubectl.apply(
        a_platform("fenced"),
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fenced", "namespace": DESK},
            "spec": {"ports": [{"port": 1}]},
        },
    )  # fmt: skip
    here = f"--namespace={DESK}"
    report = {**a_platform("fenced"), "status": {"observedGeneration": 1}}
    del report["spec"]
    apply = ("apply", "--server-side", "--subresource=status", "--validate=false", "--filename=-")
    hold(installed, f"{one.name}_a1b2")
    until(lambda: not one.applies() and bool(other.applies()), "the first may, the second may not")
    for words, thing in ((apply, report), (("delete", "service", "fenced", here), None)):
        assert one.refusal(*words, thing=thing) == ""
        assert f"pod {other.name} does not hold Lease" in other.refusal(*words, thing=thing)
    kubectl.text("delete", "tradingplatform,service", "fenced", here)


def test_a_lease_that_nobody_holds_opens_to_nobody(
    installed: installing.Helm, pods: tuple[Pod, Pod], tmp_path: Path
) -> None:
    nobody = Pod(installed.kubectl, "", "", tmp_path)
    hold(installed, "")
    until(lambda: all(one.applies() for one in (*pods, nobody)), "none of them may")
    assert f"a token of no pod does not hold Lease {NAME}: nobody does" in nobody.applies()


def test_while_there_is_no_lease_other_people_write_as_ever(installed: installing.Helm, pods: tuple[Pod, Pod]) -> None:
    hold(installed, f"{pods[0].name}_a1b2")
    until(lambda: bool(pods[1].applies()), "the second may not")
    installed.kubectl.text("delete", "lease", NAME, f"--namespace={SYSTEM}")
    until(lambda: not pods[1].applies(), "the API server has noticed that the Lease is gone")
    installed.kubectl.text(
        "create", "secret", "generic", "a-user-s", "--dry-run=server", "--from-literal=a=b", f"--namespace={DESK}"
    )


def test_what_the_operator_does_not_write_is_not_its_fence_s_business(
    installed: installing.Helm, pods: tuple[Pod, Pod]
) -> None:
    hold(installed, f"{pods[0].name}_a1b2")
    until(lambda: bool(pods[1].applies()), "the second may not")
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "some", "namespace": DESK},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Some", "action": "Some",
        "reportingController": "trading.aether.io/operator", "reportingInstance": pods[1].name,
        "regarding": {"kind": "Namespace", "name": DESK, "namespace": DESK},
    }  # fmt: skip
    assert pods[1].refusal("create", "--filename=-", "--validate=false", thing=event) == ""
