"""The chart: what it renders, and what it rejects."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from aether_cli import problems, processes
from aether_operator.api import labels
from aether_operator.api.platforms import Server
from aether_operator.catalog import releases
from aether_testing.cluster import charts
from aether_testing.cluster.charts import CHART, NAME, OPERATOR_NAMESPACE, rendered
from aether_testing.values.widgets import WITH_WIDGETS

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]


def only(things: list[Object], kind: str, name: str = "") -> Object:
    (one,) = [one for one in things if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return one


def pod_of(things: list[Object]) -> Object:
    spec: Object = only(things, "Deployment")["spec"]["template"]
    return spec


def config_of(things: list[Object]) -> Object:
    config: Object = json.loads(only(things, "ConfigMap")["data"]["config.json"])
    return config


def release_of(things: list[Object]) -> releases.Release:
    return releases.Release.model_validate(config_of(things)["release"])


# ---- what it renders


def test_helm_lint_reports_nothing() -> None:
    assert "0 chart(s) failed" in processes.run([charts.helm(), "lint", "--strict", CHART])


def test_packaged_chart_contains_the_crds(tmp_path: Path) -> None:
    processes.run([charts.helm(), "package", CHART, f"--destination={tmp_path}"])
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as opened:
        names = opened.getnames()
    assert {f"aether-operator/files/crds/{path.name}" for path in (CHART / "files/crds").iterdir()} < set(names)
    assert "aether-operator/values.schema.json" in names


def test_crds_are_rendered_unchanged_and_kept_after_uninstall() -> None:
    crds = [one for one in rendered() if one["kind"] == "CustomResourceDefinition"]
    written = [yaml.safe_load(path.read_text()) for path in sorted((CHART.parents[1] / "crds/v1alpha1").glob("*.yaml"))]
    assert [one["spec"] for one in crds] == [one["spec"] for one in written]
    assert [one["metadata"]["name"] for one in crds] == [one["metadata"]["name"] for one in written]
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in crds} == {"keep"}


def test_crds_can_be_installed_separately() -> None:
    kinds = {one["kind"] for one in rendered(values={"crds": {"install": False}})}
    assert "CustomResourceDefinition" not in kinds
    assert "Deployment" in kinds


def test_cluster_scoped_are_only_crds_policies_and_the_viewers_role() -> None:
    things = rendered()
    assert {one["kind"] for one in things if "namespace" not in one["metadata"]} == {
        "ClusterRole", "CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip
    viewers = only(things, "ClusterRole")
    assert viewers["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {verb for rule in viewers["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [rule.get("resourceNames") for rule in viewers["rules"] if "leases" in rule["resources"]] == [[NAME]]
    bound = [one for one in things if one["kind"].endswith("Binding") and "roleRef" in one]
    assert {one["roleRef"]["kind"] for one in bound} == {"Role"}, (
        "the operator itself has no right in the whole cluster"
    )


def test_two_releases_share_no_cluster_scoped_name() -> None:
    def wide(*words: str) -> set[str]:
        text = processes.run([charts.helm(), "template", *words, CHART, "--set", "crds.install=false"])
        things = [one for one in yaml.safe_load_all(text) if one]
        return {one["metadata"]["name"] for one in things if "namespace" not in one["metadata"]}

    assert wide("one", "--namespace=a").isdisjoint(wide("one", "--namespace=b"))
    assert wide("one", "--namespace=a").isdisjoint(wide("two", "--namespace=a"))


EVERYWHERE: Final[Object] = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
    "priorityClassName": "trading",
    "extraLabels": {"cost-centre": "42", "example.com/team": "a"},
}


def test_scheduling_values_apply_to_operator_and_data_plane_pods() -> None:
    things = rendered(values=EVERYWHERE)
    spec, release = pod_of(things)["spec"], release_of(things)
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"):
        assert spec[key] == EVERYWHERE[key]
    assert pod_of(things)["metadata"]["labels"].items() >= EVERYWHERE["extraLabels"].items()
    assert release.image_pull_secrets == ("registry",)
    assert release.node_selector == EVERYWHERE["nodeSelector"]
    assert list(release.tolerations) == EVERYWHERE["tolerations"]
    assert release.priority_class_name == "trading"
    assert release.extra_labels == EVERYWHERE["extraLabels"]
    assert release.operator_namespace == OPERATOR_NAMESPACE


def test_operator_only_values_are_set_on_its_pods() -> None:
    affinity: Object = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    image = {"repository": "registry.example/aether/operator", "tag": "7", "pullPolicy": "Always"}
    things = rendered(
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


def test_operator_pods_carry_scrape_annotations_unless_values_say_otherwise() -> None:
    def annotations(**values: Any) -> Object:
        found: Object = pod_of(rendered(values=values))["metadata"]["annotations"]
        return {key: value for key, value in found.items() if key.startswith("prometheus.io/")}

    (port,) = pod_of(rendered())["spec"]["containers"][0]["ports"]
    usual = {"scrape": "true", "port": str(port["containerPort"]), "path": "/metrics"}
    assert annotations() == {f"prometheus.io/{key}": value for key, value in usual.items()}
    off = {"prometheus.io/scrape": "false"}
    assert annotations(podAnnotations=off) == annotations() | off


def test_digest_takes_precedence_over_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    things = rendered(values={"image": {"repository": "r/o", "tag": "7", "digest": digest}})
    assert pod_of(things)["spec"]["containers"][0]["image"] == f"r/o@{digest}"


def test_server_images_default_to_this_version_unless_named() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    release = release_of(rendered(values={"dataPlaneImages": {"kafka": "registry.example/kafka:1"}}))
    assert release.images == {
        **{server: f"aether/{server}:{version}" for server in Server},
        Server.KAFKA: "registry.example/kafka:1",
    }


def test_service_image_defaults_to_this_version_unless_named() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert release_of(rendered()).service_image == f"aether/service:{version}"
    named = release_of(rendered(values={"serviceImage": "registry.example/service:1"}))
    assert (named.service_image, named.version) == ("registry.example/service:1", "1")


def test_changed_configuration_changes_the_pods() -> None:
    def checksum(**values: Any) -> str:
        return str(pod_of(rendered(values=values))["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum(resources={"limits": {"memory": "1Gi"}})
    assert checksum() != checksum(namespaces=["aether", "other"])


def test_network_policies_admit_the_operator_pods_by_their_labels() -> None:
    things = rendered()
    assert pod_of(things)["metadata"]["labels"].items() >= labels.OPERATOR_POD.items()
    selector = only(things, "Deployment")["spec"]["selector"]["matchLabels"]
    budget = only(things, "PodDisruptionBudget")["spec"]
    assert (budget["selector"]["matchLabels"], budget["unhealthyPodEvictionPolicy"]) == (selector, "AlwaysAllow")
    assert only(things, "Service")["spec"]["selector"] == selector


def test_each_namespace_has_equal_rights_and_one_policy_fences_all() -> None:
    things = rendered(values={"namespaces": ["team-a", "team-b"], "createNamespaces": True})
    roles = {one["metadata"]["namespace"]: one["rules"] for one in things if one["kind"] == "Role"}
    assert set(roles) == {"team-a", "team-b", OPERATOR_NAMESPACE}
    assert roles["team-a"] == roles["team-b"]
    match = only(things, "ValidatingAdmissionPolicy")["spec"]["matchConstraints"]
    assert match["namespaceSelector"]["matchExpressions"][0]["values"] == ["team-a", "team-b"]
    assert config_of(things)["namespaces"] == ["team-a", "team-b"]
    made = [one for one in things if one["kind"] == "Namespace"]
    assert [one["metadata"]["name"] for one in made] == ["team-a", "team-b"]
    assert {one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for one in made} == {"restricted"}
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in made} == {"keep"}


AWKWARD: Final = ("123", "true", "null", "1e3", "0x1")
"""Names that Kubernetes allows, and that YAML parses as another type without quotes."""


def _texts(release: str, namespace: str, other: str, word: str) -> str:
    """Render the chart with one word as every text value."""
    values: Object = {
        "namespaces": [other], "createNamespaces": True, "crds": {"install": False},
        "image": {"repository": word, "tag": word}, "serviceImage": f"{word}:{word}",
        "dataPlaneImages": dict.fromkeys(Server, f"{word}:{word}"), "imagePullSecrets": [{"name": word}],
        "nodeSelector": {word: word}, "tolerations": [{"key": word, "value": word}], "priorityClassName": word,
        "extraLabels": {word: word}, "podAnnotations": {word: word}, "serviceAccount": {"annotations": {word: word}},
    }  # fmt: skip
    return processes.run(
        [charts.helm(), "template", release, CHART, f"--namespace={namespace}", "--values=-"], stdin=json.dumps(values)
    )


def _plain(text: str, word: str) -> int:
    """How often a word occurs without quotes."""
    return sum(
        isinstance(one, yaml.ScalarEvent) and one.style is None and one.value == word for one in yaml.parse(text)
    )


@pytest.mark.parametrize("word", AWKWARD)
def test_user_values_are_rendered_as_text(word: str) -> None:
    def things(text: str) -> list[Object]:
        found = [one for one in yaml.safe_load_all(text) if one]
        pod_of(found)["metadata"]["annotations"].pop("checksum/config")
        return found

    for names in (("release", "system", "{}", "{}"), ("{}", "{}", "other", "tag")):
        odd, usual = (_texts(*(name.format(one) for name in names)) for one in (word, "usual"))
        assert _plain(odd, word) == _plain(usual, word), "it is not quoted"
        assert things(odd) == json.loads(json.dumps(things(usual)).replace("usual", word))


def test_metrics_service_is_dual_stack() -> None:
    assert only(rendered(), "Service")["spec"]["ipFamilyPolicy"] == "PreferDualStack"


def test_fence_covers_everything_that_the_operator_may_write() -> None:
    things = rendered()
    verbs = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}

    def acts(rules: list[Object], acts: str) -> set[tuple[str, str, str]]:
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


@pytest.fixture(scope="module")
def with_a_finalizer(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What the chart renders to where one kind more, Widget, has a finalizer."""
    chart = charts.with_kinds(tmp_path_factory.mktemp("chart") / "aether-operator", WITH_WIDGETS)
    return rendered(values={"namespaces": ["team-a", "team-b"]}, chart=chart)


FINALIZERS: Final = f"{NAME}.{OPERATOR_NAMESPACE}.trading.aether.io.finalizers"
"""The name of the objects that let the operator release its finalizer."""


def test_another_kind_is_in_every_role_and_in_the_fence(with_a_finalizer: list[Object]) -> None:
    def resources(rules: list[Object]) -> set[str]:
        return {one for rule in rules for one in rule["resources"] if one.startswith(("tradingp", "widgets"))}

    both = {"tradingplatforms", "tradingplatforms/status", "widgets", "widgets/status"}
    roles = [one for one in with_a_finalizer if one["kind"] == "Role" and one["metadata"]["name"] == NAME]
    assert [resources(one["rules"]) for one in roles] == [both, both]
    (viewers,) = [one for one in with_a_finalizer if one["metadata"]["name"].endswith(".view")]
    assert resources(viewers["rules"]) == {"tradingplatforms", "widgets"}
    (fence,) = [one["spec"] for one in with_a_finalizer if "paramKind" in one.get("spec", {})]
    assert resources(fence["matchConstraints"]["resourceRules"]) == both


def test_finalizer_brings_one_right_in_the_whole_cluster(with_a_finalizer: list[Object]) -> None:
    role = only(with_a_finalizer, "ClusterRole", FINALIZERS)
    assert role["rules"] == [
        {"apiGroups": ["trading.aether.io"], "resources": ["widgets"], "verbs": ["get", "list", "patch"]}
    ]
    binding = only(with_a_finalizer, "ClusterRoleBinding")
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", FINALIZERS)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": OPERATOR_NAMESPACE}]


def test_policy_limits_that_right_to_releasing_the_finalizer(with_a_finalizer: list[Object]) -> None:
    policy = only(with_a_finalizer, "ValidatingAdmissionPolicy", FINALIZERS)["spec"]
    assert policy["failurePolicy"] == "Fail"
    assert "namespaceSelector" not in policy["matchConstraints"], "it is about the other namespaces, too"
    assert policy["matchConstraints"]["resourceRules"] == [
        {"apiGroups": ["trading.aether.io"], "apiVersions": ["*"], "resources": ["widgets"], "operations": ["UPDATE"]}
    ]
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{NAME}"
    assert [one["expression"] for one in policy["matchConditions"]] == [f"request.userInfo.username == '{account}'"]
    variables = {one["name"]: one["expression"] for one in policy["variables"]}
    assert variables["ours"] == 'request.namespace in ["team-a","team-b"]'
    assert f"filter(one, one != '{labels.FINALIZER}')" in variables["others"]
    assert all(
        f".{part}.orValue" in variables["released"]
        for part in ("?finalizers", "?spec", "?labels", "?annotations", "?ownerReferences")
    )
    (rule,) = policy["validations"]
    assert rule["expression"] == "(variables.ours && !variables.terminating) || variables.released"
    assert "is being deleted" in rule["messageExpression"]
    assert ": only the finalizer may be removed" in rule["messageExpression"]
    binding = only(with_a_finalizer, "ValidatingAdmissionPolicyBinding", FINALIZERS)["spec"]
    assert (binding["policyName"], binding["validationActions"]) == (FINALIZERS, ["Deny"])


# ---- what it rejects


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
        pytest.param({"serviceImage": "not an image"}, "/serviceImage", id="the services' image"),
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
def test_invalid_values_are_rejected_by_name(values: Object, named: str) -> None:
    with pytest.raises(problems.ProgramFailed) as rejected:
        rendered(values=values)
    assert named in str(rejected.value)
