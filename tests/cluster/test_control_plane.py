"""The control plane of a test run."""

from __future__ import annotations

import json
import ssl
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aether_cli import problems
from aether_cli.local import manifests, program_builder
from aether_testing.cluster import clusters
from aether_testing.values import builders

if TYPE_CHECKING:
    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace


def test_api_server_has_the_version_of_its_go_module(control_plane: Cluster) -> None:
    versions = json.loads(control_plane.kubectl.text("version", "-o", "json"))
    version = program_builder.module("kubernetes").version_of("k8s.io/kubernetes/cmd/kubectl")
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == version
    assert versions["serverVersion"]["minor"] == "34"


def test_api_listens_on_loopback_and_is_verified_by_its_certificate(control_plane: Cluster) -> None:
    config = json.loads(control_plane.kubeconfig.read_text())
    assert control_plane.server.startswith("https://127.0.0.1:")
    assert config["clusters"][0]["cluster"]["server"] == control_plane.server
    unknown = ssl.create_default_context()
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(control_plane.server, context=unknown, timeout=10)


def test_key_files_are_readable_by_their_owner_only(control_plane: Cluster) -> None:
    state = control_plane.kubeconfig.parent
    secret = [path for path in state.rglob("*") if path.suffix in {".key", ".kubeconfig"} or path.name == "kubeconfig"]
    assert len(secret) > 10  # one for every client and server
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_no_key_appears_on_command_lines_or_in_logs(control_plane: Cluster) -> None:
    state = control_plane.kubeconfig.parent
    keys = [line for path in state.glob("pki/*.key") for line in path.read_text().splitlines() if "-----" not in line]
    texts = [path.read_text(errors="replace") for path in state.glob("logs/*.log")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                texts.append((entry / "cmdline").read_text(errors="replace"))
            except OSError:
                continue  # it has just ended
    assert keys
    assert not [key for key in keys for text in texts if key in text]


def test_pods_become_ready_without_a_node(namespace: Namespace) -> None:
    namespace.apply(builders.a_deployment("web", builders.a_pod("serve", image="nowhere/none"), replicas=3))
    namespace.until_available("web")


def test_unrestricted_pod_is_rejected_in_the_namespaces_of_aether(control_plane: Cluster) -> None:
    pod = builders.a_pod("sh", image="x")
    pod["containers"][0]["securityContext"] = {"runAsNonRoot": False}
    thing = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": pod}
    for name in manifests.NAMESPACES:
        with pytest.raises(problems.ProgramFailed, match='violates PodSecurity "restricted'):
            control_plane.kubectl.text(
                "create", "--dry-run=server", f"--namespace={name}", "-f", "-", stdin=json.dumps(thing)
            )


def test_admission_policies_are_enforced(control_plane: Cluster, namespace: Namespace) -> None:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"no-{namespace.name}"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": "!has(object.data.bad)", "message": "data.bad: not here"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": f"no-{namespace.name}"},
        "spec": {
            "policyName": f"no-{namespace.name}",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}},
        },
    }
    control_plane.kubectl.apply(policy, binding)
    try:
        # A binding takes effect a moment after its creation: try until a write is rejected, which names the field.
        for attempt in range(200):
            try:
                namespace.apply(builders.a_config_map(f"some-{attempt}", bad="yes"))
            except problems.ProgramFailed as fault:
                rejected = fault.cause
                break
        else:
            pytest.fail("the policy never acted")
        assert "data.bad: not here" in rejected
    finally:
        kinds = "validatingadmissionpolicybinding,validatingadmissionpolicy"
        control_plane.kubectl.text("delete", kinds, f"no-{namespace.name}")


def test_audit_log_has_who_did_what_and_no_secret(control_plane: Cluster, namespace: Namespace) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canary"}, "stringData": {"key": "ca-na-ry"}}
    namespace.apply(secret)
    text = (control_plane.kubeconfig.parent / "logs" / "audit.log").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    ours = [one for one in entries if one.get("objectRef", {}).get("namespace") == namespace.name]
    written = [one for one in ours if one["objectRef"]["resource"] == "secrets" and one["verb"] == "patch"]
    assert [one["user"]["username"] for one in written] == ["aether-admin"]
    assert "ca-na-ry" not in text


def test_failed_wait_reports_the_last_observation(namespace: Namespace) -> None:
    namespace.apply(builders.a_config_map("seen"))
    with pytest.raises(problems.NotReady) as caught:
        namespace.until(lambda seen: "never" in seen, "configmaps", expected="a thing that never is", deadline=1)
    assert caught.value.cause == "a thing that never is: not within 1 s"
    assert f"ConfigMap {namespace.name}/seen" in caught.value.remedy


def test_watch_reports_additions_and_deletions(namespace: Namespace) -> None:
    namespace.apply(builders.a_config_map("one"))
    namespace.until(lambda seen: f"{namespace.name}/one" in seen, "configmaps", expected="it comes")
    namespace.text("delete", "configmap", "one")
    namespace.until(lambda seen: f"{namespace.name}/one" not in seen, "configmaps", expected="it goes")


def test_two_clusters_run_side_by_side_in_isolation(
    control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = clusters.unique_paths(tmp_path_factory.mktemp("second"))
    with clusters.running(clusters.CONTROL_PLANE, at) as second:
        assert second.server != control_plane.server
        second.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "only-here"}})
        assert "only-here" not in control_plane.kubectl.text("get", "namespaces", "-o", "name")
        # Each has its own CA: a client certificate of one is not valid for the other.
        config = json.loads(second.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = control_plane.server
        crossed = at.state / "crossed.json"
        crossed.write_text(json.dumps(config))
        with pytest.raises(problems.ProgramFailed, match="certificate"):
            type(second.kubectl)(program=second.kubectl.program, kubeconfig=crossed).text("get", "nodes")
