"""The programs of a local cluster, and the keys of their cached builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aether_cli.local import binaries, program_builder, requirements

ETCD, APISERVER = binaries.CONTROL_PLANE[:2]


def test_every_program_has_its_module_tool_and_none_is_missing() -> None:
    for name in {binary.module for binary in binaries.ALL}:
        packages = sorted(binary.package for binary in binaries.ALL if binary.module == name)
        assert sorted(program_builder.module(name).tools()) == packages


def test_versions_come_from_the_module() -> None:
    assert program_builder.module("etcd").version_of(ETCD.package).startswith("v3.")
    kubernetes = program_builder.module("kubernetes")
    version = kubernetes.version_of(APISERVER.package)
    staging = {line.split()[-1] for line in kubernetes.gomod.splitlines() if "=> k8s.io/" in line}
    assert staging == {version.replace("v1.", "v0.", 1)}


def test_kubernetes_reports_its_version() -> None:
    _, linker = binaries.flags(program_builder.module("kubernetes"), APISERVER)
    version = program_builder.module("kubernetes").version_of(APISERVER.package)
    assert f"-X k8s.io/component-base/version.gitVersion={version}" in linker
    assert "-X k8s.io/component-base/version.gitMinor=34" in linker


def test_cached_build_is_valid_while_sums_and_flags_are_unchanged() -> None:
    module = program_builder.module("etcd")
    key = binaries.key(module, ETCD)
    assert binaries.key(module, ETCD) == key
    assert binaries.key(replace(module, gosum=module.gosum + "x"), ETCD) != key
    assert binaries.key(replace(module, gomod=module.gomod.replace("v3.6", "v3.5")), ETCD) != key


def test_required_go_toolchain_is_the_newest_of_the_modules() -> None:
    names = {binary.module for binary in binaries.ALL}
    lines = [
        line for name in names for line in program_builder.module(name).gomod.splitlines() if line.startswith("go 1.")
    ]
    assert max(requirements.go_version(line.replace("go ", "go")) for line in lines) == requirements.MINIMUM_GO
    script = (Path(__file__).parents[2] / ".ci" / "python").read_text()
    assert f"least={'.'.join(map(str, requirements.MINIMUM_GO))}\n" in script
