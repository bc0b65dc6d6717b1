"""Builds the cluster's images, those that changed only, and loads them on its node."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import stat
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_cli import problems, processes
from aether_cli.local import images, preflight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aether_cli import progress
    from aether_cli.local import paths

CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image's archive; `size` in bytes, `built` whether this call built it, and in how many `seconds`."""

    name: str
    reference: str
    archive: Path
    size: int
    seconds: float
    built: bool


def build(
    folders: paths.Paths,
    source: Path,
    reporter: progress.Reporter,
    catalogue: Sequence[images.Image] = images.CATALOGUE,
) -> list[BuiltImage]:
    """Build the archive of every image that has none for its current key.

    Args:
        folders: The cluster's paths: archives and the builder's store are in the cache.
        source: The folder images/.
        reporter: Shows the progress.
        catalogue: The images, base images first.

    Raises:
        ProgramFailed: A build failed; the cause names the image.
    """
    docker, scratch = preflight.docker_engine(), folders.images / ".half"
    ca_bundle = CA_BUNDLE if CA_BUNDLE.exists() else None
    buildah = images.Buildah(store=folders.cache / "buildah", scratch=scratch, ca_bundle=ca_bundle)
    contexts = {image.name: build_context(source, image) for image in catalogue}
    builder = _Builder(
        contexts=contexts,
        scratch=scratch,
        engine=images.Docker() if docker else buildah,
        catalogue={image.name: image for image in catalogue},
        references=images.references(catalogue, contexts, docker=docker),
    )
    archives = {image.name: folders.images / images.archive(builder.references[image.name]) for image in catalogue}
    took: dict[str, float] = {}
    if not all(archive.exists() for archive in archives.values()):
        folders.images.mkdir(parents=True, exist_ok=True)
        with _locked(folders.images / ".lock"), builder.opened(reporter):
            for name, archive in archives.items():
                # Checked again under the lock: another run may have built it meanwhile.
                if not archive.exists():
                    took[name] = builder.build(name, archive, reporter)
    built = [
        BuiltImage(
            name=name,
            reference=builder.references[name],
            archive=archive,
            size=archive.stat().st_size,
            seconds=took.get(name, 0.0),
            built=name in took,
        )
        for name, archive in archives.items()
    ]
    for one in built:
        if not one.built:
            with reporter.step(f"image {one.name}") as step:
                step.result(f"unchanged, {_megabytes(one.size)}")
    return built


def build_context(source: Path, image: images.Image) -> list[images.File]:
    """Read an image's build context.

    Raises:
        BadInput: A part of it does not exist.
    """
    if not image.extra:
        return read_files(source / image.folder)
    return [file for part in image.parts for file in read_files(source.parent, part)]


def read_files(folder: Path, part: str = ".") -> list[images.File]:
    """Read the files of a folder, or of a part of it, except Python's caches; names are relative to the folder.

    Raises:
        BadInput: The part does not exist.
    """
    top = folder / part
    if not top.exists():
        raise problems.BadInput(f"images: {top} not found", remedy="Run aether from a complete clone of its repository")
    return [
        images.File(
            name=str(path.relative_to(folder)),
            mode=path.lstat().st_mode,
            data=str(path.readlink()).encode() if path.is_symlink() else path.read_bytes(),
        )
        for path in ([top] if top.is_file() else top.rglob("*"))
        if (path.is_symlink() or path.is_file()) and "__pycache__" not in path.parts
    ]


def write_files(files: Iterable[images.File], folder: Path) -> None:
    """The inverse of `read_files`."""
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(file.mode):
            path.symlink_to(file.data.decode())
        else:
            path.write_bytes(file.data)
            path.chmod(stat.S_IMODE(file.mode))


def load(
    built: Sequence[BuiltImage],
    present: Callable[[], set[str]],
    put: Callable[[Path], None],
    reporter: progress.Reporter,
    *,
    parallel: int = 1,
) -> list[str]:
    """Import the images that a node does not have.

    Args:
        built: The images that it should have.
        present: Returns the references that it has.
        put: Imports an archive.
        reporter: Shows the progress.
        parallel: How many imports at a time; each keeps one processor busy.

    Returns:
        The references of the imported images.
    """
    references = present()
    absent = [one for one in built if one.reference not in references]
    if parallel == 1 or len(absent) < parallel:
        for one in absent:
            with reporter.step(f"load {one.name}") as step:
                put(one.archive)
                step.result(_megabytes(one.size))
    else:
        with reporter.step("load images") as step, futures.ThreadPoolExecutor(parallel) as pool:
            # The largest first, so that the last import to end is a small one.
            waiting = {
                pool.submit(put, one.archive): one for one in sorted(absent, key=lambda one: one.size, reverse=True)
            }
            for done, future in enumerate(futures.as_completed(waiting), start=1):
                future.result()
                step.update(done, len(absent), waiting[future].name)
            names = ", ".join(one.name for one in absent)
            step.result(f"{_megabytes(sum(one.size for one in absent))}: {names}")
    return [one.reference for one in absent]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """Builds images; one run at a time has it open, with the scratch folder to itself."""

    contexts: Mapping[str, Iterable[images.File]]
    scratch: Path
    engine: images.Engine
    catalogue: Mapping[str, images.Image]
    references: Mapping[str, str]

    @contextlib.contextmanager
    def opened(self, reporter: progress.Reporter) -> Iterator[None]:
        shutil.rmtree(self.scratch, ignore_errors=True)  # of a run that was killed
        self.scratch.mkdir()
        try:
            if isinstance(self.engine, images.Buildah):
                processes.run(self.engine.clear())
                if self.references[images.DEBIAN] not in self._listed():
                    with reporter.step(f"image {images.DEBIAN}") as step:
                        step.result(f"built, {_megabytes(self._make_debian(self.engine, step))}")
            yield
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def build(self, name: str, archive: Path, reporter: progress.Reporter) -> float:
        """Build an image and its archive, and delete earlier builds; returns the seconds it took."""
        began = time.monotonic()
        temporary = self.scratch / archive.name
        with reporter.step(f"image {name}") as step:
            self._build(name, step)
            self._run(name, self.engine.save(self.references[name], temporary), step)
            temporary.rename(archive)
            for old in images.older([path.name for path in archive.parent.iterdir()], archive.name):
                (archive.parent / old).unlink()
            self._remove_older(self.references[name])
            step.result(f"built, {_megabytes(archive.stat().st_size)}")
        return time.monotonic() - began

    def _build(self, name: str, step: progress.Step) -> None:
        """Build an image and its bases, unless the builder has them."""
        if name not in self.catalogue or self.references[name] in self._listed():
            return
        image = self.catalogue[name]
        self._build(image.base, step)
        # Written from the files that the key was computed from: an edit meanwhile does not get into the build.
        folder = self.scratch / f"context-{name}"
        write_files(self.contexts[name], folder)
        arguments = images.arguments(image, self.references)
        build = self.engine.build(self.references[name], folder / image.dockerfile, folder, arguments)
        self._run(name, build, step)

    def _make_debian(self, buildah: images.Buildah, step: progress.Step) -> int:
        """Build the local base image; returns the size of its root file system in bytes."""
        folder, reference = self.scratch / images.DEBIAN, self.references[images.DEBIAN]
        folder.mkdir()
        (folder / "Dockerfile").write_text(images.DEBIAN_DOCKERFILE)
        self._run(images.DEBIAN, buildah.debian(folder / images.ROOT_TAR), step)
        self._run(images.DEBIAN, buildah.build(reference, folder / "Dockerfile", folder, {}), step)
        self._remove_older(reference)
        return (folder / images.ROOT_TAR).stat().st_size

    def _listed(self) -> list[str]:
        return processes.run(self.engine.listed()).split()

    def _remove_older(self, reference: str) -> None:
        for old in images.older(self._listed(), reference):
            # It fails where a container uses the image: then the image stays.
            with contextlib.suppress(problems.ProgramFailed):
                processes.run(self.engine.remove(old))

    @staticmethod
    def _run(name: str, command: Sequence[str], step: progress.Step) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            if progress := images.progress(line):
                step.update(*progress)

        try:
            processes.run(command, on_line=on_line, deadline=1800)
        except problems.ProgramFailed as failed:
            raise problems.ProgramFailed(f"image {name}: {images.cause(lines) or failed.cause}") from failed
