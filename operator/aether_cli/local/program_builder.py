"""Finds the cluster's programs in KUBEBUILDER_ASSETS or in the cache, or builds them with `go build`."""

from __future__ import annotations

import fcntl
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_cli import problems, processes
from aether_cli.local import binaries, requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aether_cli import progress

MODULES: Final = Path(__file__).parent / "gomodules"


# Downloads no toolchain and creates no telemetry folder: a query changes nothing.
QUERY_ENVIRONMENT: Final = {"GOTOOLCHAIN": "local", "XDG_CONFIG_HOME": "/dev/null"}


def module(name: str) -> binaries.Module:
    """Read one of the Go modules under gomodules/."""
    folder = MODULES / name
    return binaries.Module(
        name=name, folder=folder, gomod=(folder / "go.mod").read_text(), gosum=(folder / "go.sum").read_text()
    )


def _lookup(binary: binaries.Binary, cache: Path, env: Mapping[str, str]) -> tuple[Path, bool]:
    """A program's path, and whether it exists."""
    assets = env.get("KUBEBUILDER_ASSETS", "")
    if assets and (given := Path(assets) / binary.name).is_file():
        return given, True
    cached = cache / "bin" / f"{binary.name}-{binaries.key(module(binary.module), binary)}" / binary.name
    return cached, cached.is_file()


def find(binary: binaries.Binary, cache: Path, env: Mapping[str, str]) -> Path | None:
    """The path of a program; None where it has to be built."""
    path, exists = _lookup(binary, cache, env)
    return path if exists else None


def missing(required: Sequence[binaries.Binary], cache: Path, env: Mapping[str, str]) -> list[str]:
    """The names of the programs that have to be built."""
    return [binary.name for binary in required if find(binary, cache, env) is None]


def ensure(
    required: Sequence[binaries.Binary], cache: Path, env: Mapping[str, str], reporter: progress.Reporter
) -> dict[str, Path]:
    """Build the programs that are missing, and return the path of each required one by name.

    Raises:
        NotPossibleHere: There is something to build and no Go toolchain.
        ProgramFailed: The build failed.
    """
    found = {binary.name: _lookup(binary, cache, env)[0] for binary in required}
    if missing(required, cache, env):
        (cache / "bin").mkdir(parents=True, exist_ok=True)
        with _locked(cache / "bin" / ".lock"):
            # Again under the lock: another run may have built them while we waited.
            to_build = [binary for binary in required if not found[binary.name].is_file()]
            for nth, binary in enumerate(to_build, start=1):
                with reporter.step(f"build {binary.name}") as step:
                    _build(binary, found[binary.name], step, f"({nth} of {len(to_build)})")
    return found


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(binary: binaries.Binary, target: Path, step: progress.Step, which: str) -> None:
    source = module(binary.module)
    go, _ = toolchain()
    if not go:
        raise problems.NotPossibleHere(f"go: {binary.name} has to be built, and there is no Go toolchain")
    environment = {**binaries.ENVIRONMENT, "GOOS": "", "GOARCH": ""}
    step.update(0, 1, f"{which} fetching modules")
    listed = processes.run(
        [go, "list", "-deps", binary.package], env=environment, cwd=source.folder, deadline=1200
    ).split()
    packages, compiled_packages = set(listed), set[str]()
    step.update(0, len(packages), f"packages {which}")

    def compiled(line: str) -> None:
        if line in packages:
            compiled_packages.add(line)
            step.update(len(compiled_packages), len(packages), f"packages {which}")

    # Built beside its target folder and renamed, so that an interrupted build leaves no partial one.
    temporary = target.parent.with_name(f".{target.parent.name}.half")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    linker = binaries.flags(source, binary)
    processes.run(
        # The compiler is killed when this process dies.
        ["setpriv", "--pdeathsig=KILL", go, "build", "-v", *linker, "-o", temporary / binary.name, binary.package],
        env=environment,
        cwd=source.folder,
        on_line=compiled,
        deadline=3600,
    )
    shutil.rmtree(target.parent, ignore_errors=True)
    temporary.rename(target.parent)
    step.result(f"{source.version_of(binary.package)}, {target.stat().st_size / 1e6:.0f} MB")


def toolchain() -> tuple[str, str]:
    """The Go toolchain's path and version: that of PATH if it is new enough, else the newer of it and the venv's."""
    best = ("", "")
    for go in (shutil.which("go"), shutil.which(Path(sys.prefix) / "bin" / "go")):
        if go is not None:
            try:
                version = processes.run([go, "env", "GOVERSION"], env=QUERY_ENVIRONMENT, deadline=20).strip()
            except problems.ProgramFailed:
                continue
            best = max(best, (go, version), key=lambda one: requirements.go_version(one[1]))
            if requirements.go_version(version) >= requirements.MINIMUM_GO:
                break
    return best
