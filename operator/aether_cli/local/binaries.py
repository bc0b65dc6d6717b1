"""The programs of the local cluster: from which Go module, and under which key a build is kept. Values only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program: its file name, the folder of its module under gomodules/, and the package that is its main."""

    name: str
    module: str
    package: str


def _kubernetes(name: str) -> Binary:
    return Binary(name=name, module="kubernetes", package=f"k8s.io/kubernetes/cmd/{name}")


CONTROL_PLANE: Final = (
    Binary(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3"),
    # First of its module: it pays for the packages that the others share.
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubectl"),
)
SCHEDULING: Final = (_kubernetes("kube-scheduler"),)
NODE: Final = (
    *SCHEDULING,
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Binary(name="coredns", module="coredns", package="github.com/coredns/coredns"),
    Binary(name="helm", module="helm", package="helm.sh/helm/v4/cmd/helm"),
)
KWOK: Final = (*SCHEDULING, Binary(name="kwok", module="kwok", package="sigs.k8s.io/kwok/cmd/kwok"))
ALL: Final = (*CONTROL_PLANE, *NODE, KWOK[-1])

ENVIRONMENT: Final = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
    "GOWORK": "off",
    # The toolchain at hand or none: a build must not fetch a compiler.
    "GOTOOLCHAIN": "local",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One of our Go modules: the folder, and what decides its binaries."""

    name: str
    folder: Path
    gomod: str
    gosum: str

    def version_of(self, package: str) -> str:
        """The required version of the module that holds this package, with its v."""
        required = re.findall(r"^(?:require )?\s*(\S+) (v\S+)(?: // indirect)?$", self.gomod, re.MULTILINE)
        candidates = [
            (path, version) for path, version in required if package == path or package.startswith(path + "/")
        ]
        path_and_version: tuple[str, str] = max(candidates, key=lambda candidate: len(candidate[0]))
        return path_and_version[1]

    def tools(self) -> list[str]:
        """The packages that go.mod names as its tools."""
        return re.findall(r"^(?:tool)?\s+(\S+/\S+)$", self.gomod, re.MULTILINE)


def flags(module: Module, binary: Binary) -> tuple[str, ...]:
    """The linker's flags: stripped, and with the version that the programs report of themselves.

    Without them the API server calls itself v0.0.0-master, and version checks of clients break.
    """
    words = ["-s", "-w"]
    version = module.version_of(binary.package)
    if module.name == "kubernetes":
        major, minor, _ = version.removeprefix("v").split(".", 2)
        build_info = {
            "gitVersion": version,
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
            "gitCommit": "0" * 40,
            "buildDate": "1970-01-01T00:00:00Z",
        }
        for candidate in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            words += [word for key, value in build_info.items() for word in ("-X", f"{candidate}.{key}={value}")]
    if module.name == "helm":
        words += ["-X", f"helm.sh/helm/v4/internal/version.version={version}"]
    return ("-ldflags", " ".join(words))


def key(module: Module, binary: Binary) -> str:
    """Changes when, and only when, another build would give another program."""
    parts = (module.gomod, module.gosum, binary.package, *flags(module, binary), repr(sorted(ENVIRONMENT.items())))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
