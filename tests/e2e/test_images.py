"""Real builds of images: only changed ones, leaving nothing but archives and the builder's store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aether_cli import problems, progress
from aether_cli.local import image_builder, images, paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aether_testing.cluster import machines

NAME = "under-test"
QUIET = progress.SilentReporter()


@pytest.fixture
def at() -> Iterator[paths.Paths]:
    """The shared cache, which has the local base. The test's additions are removed."""
    one = paths.for_cluster("aether", os.environ)
    yield one
    for archive in one.images.glob(f"{NAME}-*.tar"):
        archive.unlink()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / NAME
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY hello /hello\nRUN test -s /hello\n")
    (folder / "hello").write_text("one")
    return tmp_path / "images"


CATALOGUE: Sequence[images.Image] = (images.Image(name=NAME, folder=NAME),)


def test_only_changed_images_are_rebuilt(machine: machines.Machine, at: paths.Paths, source: Path) -> None:
    before = machine.snapshot(NAME)
    (first,) = image_builder.build(at, source, QUIET, CATALOGUE)
    (again,) = image_builder.build(at, source, QUIET, CATALOGUE)
    assert (first.built, again.built, again.reference) == (True, False, first.reference)
    assert first.size == first.archive.stat().st_size > 0

    (source / NAME / "hello").write_text("two")
    (changed,) = image_builder.build(at, source, QUIET, CATALOGUE)
    assert changed.built
    assert changed.reference != first.reference
    assert [path.name for path in at.images.glob(f"{NAME}-*")] == [changed.archive.name]
    assert machine.snapshot(NAME).changes_since(before) == {}


def test_failed_build_names_image_and_cause_and_leaves_nothing(
    machine: machines.Machine, at: paths.Paths, source: Path
) -> None:
    before = machine.snapshot(NAME)
    (source / NAME / "hello").write_text("")
    with pytest.raises(problems.ProgramFailed, match=f"image {NAME}: .*RUN test -s /hello"):
        image_builder.build(at, source, QUIET, CATALOGUE)
    assert list(at.images.glob(f"{NAME}-*")) == []
    assert machine.snapshot(NAME).changes_since(before) == {}


def test_image_is_built_from_the_parts_it_names(at: paths.Paths, source: Path) -> None:
    (source / NAME / "Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY src /src\nRUN test -s /src/core.py && test ! -e /src/core.pyc\n"
    )
    (source.parent / "src" / "__pycache__").mkdir(parents=True)
    (source.parent / "src" / "core.py").write_text("one = 1\n")
    (source.parent / "src" / "__pycache__" / "core.pyc").write_text("left behind")
    catalogue = (images.Image(name=NAME, folder=NAME, extra=("src",)),)
    (first,) = image_builder.build(at, source, QUIET, catalogue)
    (source.parent / "else.py").write_text("not a part")
    (again,) = image_builder.build(at, source, QUIET, catalogue)
    (source.parent / "src" / "core.py").write_text("two = 2\n")
    (changed,) = image_builder.build(at, source, QUIET, catalogue)
    assert [one.built for one in (first, again, changed)] == [True, False, True]
