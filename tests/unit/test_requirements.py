"""The messages about requirements that a machine does not meet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aether_cli.local import requirements
from aether_cli.local.settings import Profile, Settings

NODE = Settings()
FULL = requirements.Machine(
    root=True,
    namespaces=True,
    programs=frozenset(requirements.required_programs(replace(NODE, egress=True), docker=False)),
    memory=8 * requirements.GIB,
    disk=50 * requirements.GIB,
    go="go1.26.8",
    to_build=("etcd",),
    docker=False,
    filesystems=frozenset({"overlay"}),
    port_taken=False,
    folders=(Path("/home/quant/.cache/aether"),),
    has_repository=True,
)


def test_complete_machine_lacks_nothing() -> None:
    assert requirements.missing(FULL, replace(NODE, egress=True)) == []


@pytest.mark.parametrize(
    ("machine", "begins", "advice"),
    [
        (replace(FULL, root=False), "root:", "--context NAME"),
        (replace(FULL, programs=FULL.programs - {"runc"}), "packages: runc not found", "apt-get install runc"),
        (
            replace(FULL, programs=FULL.programs - {"ctr", "/usr/lib/cni/bridge"}),
            "packages: bridge, ctr not found",
            "apt-get install containerd containernetworking-plugins",
        ),
        (replace(FULL, go=""), "go: none found, and 1 programs have to be built", "Install Go 1.26"),
        (replace(FULL, go="go1.19.8"), "go: go1.19.8 found", "KUBEBUILDER_ASSETS"),
        (replace(FULL, memory=requirements.GIB), "memory: 1.0 GiB available, 5.0 GiB needed", "End other programs"),
        (replace(FULL, disk=requirements.GIB), "disk: 1.0 GiB free, 11.0 GiB needed", "XDG_CACHE_HOME"),
        (replace(FULL, port_taken=True), "port: 127.0.0.1:16443 is in use", "--port N"),
        (replace(FULL, filesystems=frozenset({"ext4"})), "kernel: no overlay", "modprobe overlay"),
        (replace(FULL, folders=(Path("/var/lib/ci/x"),)), "folders: /var/lib/ci/x is under /var", "XDG_"),
        (replace(FULL, has_repository=False), "images:", "clone"),
        (replace(FULL, namespaces=False), "namespaces: root may not create any here", "outside"),
    ],
)
def test_each_missing_requirement_is_one_line_with_what_to_do(
    machine: requirements.Machine, begins: str, advice: str
) -> None:
    (requirement,) = requirements.missing(machine, NODE)
    assert requirement.cause.startswith(begins)
    assert advice in requirement.remedy
    assert "\n" not in str(requirement)


def test_all_missing_requirements_are_reported_at_once() -> None:
    machine = replace(FULL, programs=FULL.programs - {"runc"}, port_taken=True, memory=0)
    assert [requirement.cause.split(":")[0] for requirement in requirements.missing(machine, NODE)] == [
        "packages",
        "memory",
        "port",
    ]


def test_a_toolchain_is_needed_only_to_build() -> None:
    assert requirements.missing(replace(FULL, go="", to_build=()), NODE) == []


def test_a_control_plane_needs_neither_a_container_runtime_nor_images() -> None:
    bare = replace(FULL, programs=frozenset(requirements.ALWAYS), has_repository=False, filesystems=frozenset())
    assert requirements.missing(bare, replace(NODE, profile=Profile.CONTROL_PLANE)) == []


def test_docker_engine_replaces_buildah() -> None:
    without = FULL.programs - {"buildah", "mmdebstrap"}
    assert requirements.missing(replace(FULL, programs=without, docker=True), NODE) == []
    assert requirements.missing(replace(FULL, programs=without), NODE) != []


def test_egress_requires_its_program() -> None:
    (requirement,) = requirements.missing(
        replace(FULL, programs=FULL.programs - {"slirp4netns"}), replace(NODE, egress=True)
    )
    assert "apt-get install slirp4netns" in requirement.remedy
