"""The components of each kind of local cluster, and their configuration."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from aether_cli.local import binaries, certificates, components, configs, manifests, networks, paths
from aether_cli.local.settings import Profile, Settings

AT = paths.for_cluster("first", {"HOME": "/home/quant"})
PROGRAMS = {binary.name: Path("/bin") / binary.name for binary in binaries.ALL}
GIVEN = components.Descriptors(api_socket=3, outer_network=20, cluster_lock=21)
KINDS = [
    Settings(profile=profile, egress=egress, kwok=kwok)
    for profile, egress, kwok in itertools.product(Profile, (False, True), (False, True))
]


@pytest.mark.parametrize("chosen", KINDS, ids=str)
def test_components_depend_only_on_earlier_ones(chosen: Settings) -> None:
    before = set[str]()
    for one in components.for_settings(chosen, AT, PROGRAMS, GIVEN, "python3"):
        assert set(one.after) <= before
        before.add(one.name)


def names(chosen: Settings) -> set[str]:
    return {one.name for one in components.for_settings(chosen, AT, PROGRAMS, GIVEN, "python3")}


def test_control_plane_has_no_node_and_a_node_has_everything() -> None:
    bare = names(Settings(profile=Profile.CONTROL_PLANE))
    assert bare == {"etcd", "kube-apiserver", "api-port", "kube-controller-manager", "first-objects"}
    assert names(Settings()) == bare | {"kube-scheduler", "containerd", "kubelet", "kube-proxy", "coredns", "volumes"}
    assert names(Settings(egress=True)) - names(Settings()) == {"egress"}
    assert names(Settings(profile=Profile.CONTROL_PLANE, kwok=True)) - bare == {"kube-scheduler", "kwok"}


def test_only_a_temporary_store_skips_fsync() -> None:
    def etcd(chosen: Settings) -> tuple[str, ...]:
        return components.for_settings(chosen, AT, PROGRAMS, GIVEN, "python3")[0].command

    assert "--unsafe-no-fsync" not in etcd(Settings())
    assert "--unsafe-no-fsync" in etcd(Settings(durable=False))


def test_every_client_has_a_certificate_and_no_token() -> None:
    words = [word for one in components.for_settings(KINDS[-1], AT, PROGRAMS, GIVEN, "python3") for word in one.command]
    used = {Path(word.rpartition("=")[2]).stem for word in words if word.endswith(".kubeconfig")}
    assert used <= set(certificates.IDENTITIES)
    assert not [word for word in words if "token" in word]


def test_external_names_are_forwarded_only_with_egress() -> None:
    assert "forward" not in configs.corefile(Path("/k"), egress=False)
    assert f"forward . {networks.EGRESS_DNS}" in configs.corefile(Path("/k"), egress=True)


def test_exported_kubeconfig_is_complete_and_can_be_merged() -> None:
    pair = certificates.Pair(certificate=b"c", key=b"k")
    read = {name: json.loads(configs.exported_kubeconfig(name, 1, b"ca", pair)) for name in ("aether", "second")}
    assert [read[name]["current-context"] for name in read] == ["aether", "aether-second"]
    assert set(read["second"]["clusters"][0]["cluster"]) == {"server", "certificate-authority-data"}
    assert set(read["second"]["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


@pytest.mark.parametrize("chosen", KINDS, ids=str)
def test_every_first_object_is_named_once(chosen: Settings) -> None:
    identities = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in manifests.initial_objects(chosen)
    ]
    assert len(identities) == len(set(identities))
