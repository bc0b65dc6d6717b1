"""Finds the cluster's programs: where the environment says, in the cache, or by `go build`, telling how far it is."""

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


# No compiler fetched, and no folder for statistics made: looking changes nothing.
QUERY_ENVIRONMENT: Final = {"GOTOOLCHAIN": "local", "XDG_CONFIG_HOME": "/dev/null"}


def module(name: str) -> binaries.Module:
    """One of our Go modules, read."""
    folder = MODULES / name
    return binaries.Module(
        name=name, folder=folder, gomod=(folder / "go.mod").read_text(), gosum=(folder / "go.sum").read_text()
    )


def _lookup(binary: binaries.Binary, cache: Path, env: Mapping[str, str]) -> tuple[Path, bool]:
    """Where a program is or belongs, and whether it is there."""
    assets = env.get("KUBEBUILDER_ASSETS", "")
    if assets and (given := Path(assets) / binary.name).is_file():
        return given, True
    kept = cache / "bin" / f"{binary.name}-{binaries.key(module(binary.module), binary)}" / binary.name
    return kept, kept.is_file()


def find(binary: binaries.Binary, cache: Path, env: Mapping[str, str]) -> Path | None:
    """A program that needs no building, or nothing."""
    where, there = _lookup(binary, cache, env)
    return where if there else None


def missing(required: Sequence[binaries.Binary], cache: Path, env: Mapping[str, str]) -> list[str]:
    """The names of the programs that would have to be built."""
    return [binary.name for binary in required if find(binary, cache, env) is None]


def ensure(
    required: Sequence[binaries.Binary], cache: Path, env: Mapping[str, str], reporter: progress.Reporter
) -> dict[str, Path]:
    """Every wanted program, by name; what is nowhere is built.

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

    # Built beside its place and renamed into it, so that an interrupted build leaves nothing that counts.
    half = target.parent.with_name(f".{target.parent.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    linker = binaries.flags(source, binary)
    processes.run(
        # The compiler ends with us, however we end.
        ["setpriv", "--pdeathsig=KILL", go, "build", "-v", *linker, "-o", half / binary.name, binary.package],
        env=environment,
        cwd=source.folder,
        on_line=compiled,
        deadline=3600,
    )
    shutil.rmtree(target.parent, ignore_errors=True)
    half.rename(target.parent)
    step.result(f"{source.version_of(binary.package)}, {target.stat().st_size / 1e6:.0f} MB")


def toolchain() -> tuple[str, str]:
    """The Go compiler, its path and its version: the machine's where it is new enough, else the one beside Python."""
    newest = ("", "")
    for go in (shutil.which("go"), shutil.which(Path(sys.prefix) / "bin" / "go")):
        if go is not None:
            try:
                said = processes.run([go, "env", "GOVERSION"], env=QUERY_ENVIRONMENT, deadline=20).strip()
            except problems.ProgramFailed:
                continue
            newest = max(newest, (go, said), key=lambda one: requirements.go_version(one[1]))
            if requirements.go_version(said) >= requirements.MINIMUM_GO:
                break
    return newest
