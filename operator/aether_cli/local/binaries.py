"""The programs of a local cluster: the Go module of each, its linker flags, and the key of its cached build. No I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program: its file name, its module's folder under gomodules/, and its main package."""

    name: str
    module: str
    package: str


def _kubernetes(name: str) -> Binary:
    return Binary(name=name, module="kubernetes", package=f"k8s.io/kubernetes/cmd/{name}")


CONTROL_PLANE: Final = (
    Binary(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3"),
    # First of its module: its build includes the packages that the others share.
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
    # Use the installed toolchain: a build must not download a compiler.
    "GOTOOLCHAIN": "local",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One of the Go modules under gomodules/: its folder, and the files that determine its builds."""

    name: str
    folder: Path
    gomod: str
    gosum: str

    def version_of(self, package: str) -> str:
        """The required version (`v1.2.3`) of the module that contains this package."""
        required = re.findall(r"^(?:require )?\s*(\S+) (v\S+)(?: // indirect)?$", self.gomod, re.MULTILINE)
        candidates = [
            (path, version) for path, version in required if package == path or package.startswith(path + "/")
        ]
        path_and_version: tuple[str, str] = max(candidates, key=lambda candidate: len(candidate[0]))
        return path_and_version[1]

    def tools(self) -> list[str]:
        """The packages of go.mod's `tool` directives."""
        return re.findall(r"^(?:tool)?\s+(\S+/\S+)$", self.gomod, re.MULTILINE)


def flags(module: Module, binary: Binary) -> tuple[str, ...]:
    """The linker flags: stripped, and with the version that the program reports.

    Without them the API server reports v0.0.0-master, which fails clients' version checks.
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
    """The cache key of a build: it changes exactly when a build would give another program."""
    parts = (module.gomod, module.gosum, binary.package, *flags(module, binary), repr(sorted(ENVIRONMENT.items())))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
