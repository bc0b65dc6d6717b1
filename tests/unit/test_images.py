"""The images of a local cluster: keys, references, builders' command lines and output, loading."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aether_cli import problems
from aether_cli.local import image_builder, images
from aether_testing.values.progress_recorder import ProgressRecorder

FILES = [images.File("Dockerfile", 0o100644, b"FROM x\n"), images.File("lib/a.c", 0o100644, b"int a;\n")]
BUILDAH = images.Buildah(store=Path("/cache/store"), scratch=Path("/cache/half"), ca_bundle=Path("/ca.crt"))


def a_context(text: str = "FROM x\n") -> list[images.File]:
    return [images.File("Dockerfile", 0o100644, text.encode())]


def a_built_image(name: str) -> image_builder.BuiltImage:
    reference = images.reference(name, "0" * 12)
    archive = Path("/images", images.archive(reference))
    return image_builder.BuiltImage(
        name=name, reference=reference, archive=archive, size=1_500_000, seconds=0.0, built=False
    )


# ---- keys


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([FILES[0], images.File("lib/a.c", 0o100644, b"int b;\n")], id="a byte"),
        pytest.param([FILES[0], images.File("lib/b.c", 0o100644, b"int a;\n")], id="a name"),
        pytest.param([FILES[0], images.File("lib/a.c", 0o100755, b"int a;\n")], id="a mode"),
        pytest.param([*FILES, images.File("empty", 0o100644, b"")], id="a file more"),
        pytest.param(FILES[:1], id="a file less"),
    ],
)
def test_key_changes_with_every_build_input(changed: list[images.File]) -> None:
    assert images.key(changed, {}) != images.key(FILES, {})


def test_a_key_changes_with_a_build_argument() -> None:
    assert images.key(FILES, {"A": "1"}) != images.key(FILES, {"A": "2"}) != images.key(FILES, {"B": "2"})


def test_key_is_independent_of_the_order_of_files() -> None:
    assert images.key(FILES[::-1], {"A": "1", "B": "2"}) == images.key(FILES, {"B": "2", "A": "1"})


def test_a_key_is_twelve_hexadecimal_digits() -> None:
    assert len(images.key(FILES, {})) == 12
    assert int(images.key(FILES, {}), 16)


def test_context_has_relative_names_modes_and_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "run").write_bytes(b"#!")
    (tmp_path / "lib" / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("nowhere")
    read = sorted(image_builder.read_files(tmp_path))
    assert [(file.name, file.data) for file in read] == [("lib/run", b"#!"), ("link", b"nowhere")]
    assert read[0].mode == 0o100755


def a_repository(folder: Path) -> Path:
    """A repository's folder images/, beside what else is in a repository."""
    for name in ("images/oms/Dockerfile", "src/oms/core.py", "src/oms/__pycache__/core.pyc", "src/else.py", "lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder / "images"


def test_context_is_the_folder_and_any_extra_repository_parts(tmp_path: Path) -> None:
    source = a_repository(tmp_path)
    alone = images.Image(name="oms", folder="oms")
    more = images.Image(name="oms", folder="oms", extra=("src/oms", "lock"))
    assert [file.name for file in image_builder.build_context(source, alone)] == ["Dockerfile"]
    assert alone.dockerfile == "Dockerfile"
    assert [file.name for file in image_builder.build_context(source, more)] == [
        "images/oms/Dockerfile",
        "src/oms/core.py",
        "lock",
    ]
    assert more.dockerfile == "images/oms/Dockerfile"


def test_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(problems.BadInput, match="src/gone not found"):
        image_builder.build_context(a_repository(tmp_path), images.Image(name="oms", folder="oms", extra=("src/gone",)))


def test_a_context_that_was_read_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "one" / "lib").mkdir(parents=True)
    (tmp_path / "one" / "lib" / "run").write_bytes(b"#!")
    (tmp_path / "one" / "lib" / "run").chmod(0o755)
    (tmp_path / "one" / "link").symlink_to("nowhere")
    read = sorted(image_builder.read_files(tmp_path / "one"))
    image_builder.write_files(read, tmp_path / "two")
    assert sorted(image_builder.read_files(tmp_path / "two")) == read


def test_every_catalog_image_has_its_dockerfile_in_its_context() -> None:
    source = Path(__file__).parents[2] / "images"
    for image in images.CATALOGUE:
        assert image.dockerfile in {file.name for file in image_builder.build_context(source, image)}


# ---- references


def two_images() -> list[images.Image]:
    return [images.Image(name="base", folder="base"), images.Image(name="oms", folder="oms", base="base")]


def test_without_docker_all_images_use_the_local_base() -> None:
    found = images.references(images.CATALOGUE, {one.name: a_context() for one in images.CATALOGUE}, docker=False)
    assert list(found) == [images.DEBIAN, *(one.name for one in images.CATALOGUE)]
    for one in images.CATALOGUE:
        assert images.arguments(one, found) == {"BASE_IMAGE": found[one.base]}


def test_with_docker_a_dockerfile_names_its_own_base() -> None:
    found = images.references(images.CATALOGUE, {one.name: a_context() for one in images.CATALOGUE}, docker=True)
    assert images.DEBIAN not in found
    for one in images.CATALOGUE:
        assert images.arguments(one, found) == ({"BASE_IMAGE": found[one.base]} if one.base in found else {})


@pytest.mark.parametrize("docker", [False, True])
def test_changed_base_changes_its_dependents(*, docker: bool) -> None:
    before = images.references(two_images(), {"base": a_context(), "oms": a_context()}, docker=docker)
    after = images.references(two_images(), {"base": a_context("FROM y\n"), "oms": a_context()}, docker=docker)
    assert before["oms"] != after["oms"]
    assert images.arguments(two_images()[1], after) == {"BASE_IMAGE": after["base"]}


def test_local_image_is_not_confused_with_a_docker_build() -> None:
    contexts = {"base": a_context(), "oms": a_context()}
    here = images.references(two_images(), contexts, docker=False)
    there = images.references(two_images(), contexts, docker=True)
    assert here["base"] != there["base"]


def test_an_archive_is_named_after_the_reference() -> None:
    reference = images.reference("pause", "0123456789ab")
    assert reference == "localhost/aether/pause:0123456789ab"
    assert images.archive(reference) == "pause-0123456789ab.tar"


def test_older_builds_differ_only_in_the_key() -> None:
    files = ["base-0123456789ab.tar", "base-ba9876543210.tar", "base-x-0123456789ab.tar", ".lock", "base-0123456789ab"]
    assert images.older(files, "base-ba9876543210.tar") == ["base-0123456789ab.tar"]
    stored = [images.reference("base", "0" * 12), images.reference("a-base", "0" * 12), "<none>:<none>"]
    assert images.older(stored, images.reference("base", "1" * 12)) == stored[:1]


# ---- command lines


def test_docker_is_given_the_arguments_and_the_folder() -> None:
    command = images.Docker().build("r/oms:1", Path("/x/images/oms/Dockerfile"), Path("/x"), {"BASE_IMAGE": "b:1"})
    assert command[:2] == ("docker", "build")
    assert command[2:] == ("--tag=r/oms:1", "--file=/x/images/oms/Dockerfile", "--build-arg=BASE_IMAGE=b:1", "/x")


def test_buildah_works_in_its_own_store_and_namespaces() -> None:
    commands = [
        BUILDAH.listed(),
        BUILDAH.build("r:1", Path("/images/base/Dockerfile"), Path("/images/base"), {}),
        BUILDAH.save("r:1", Path("/cache/half/r.tar")),
        BUILDAH.remove("r:1"),
        BUILDAH.clear(),
    ]
    for command in commands:
        assert command[: command.index("buildah")] == commands[0][: commands[0].index("buildah")]
        assert {"unshare", "--mount", "--pid", "--kill-child", "--pdeathsig=KILL"} <= set(command)
        assert {"--root=/cache/store", "--runroot=/cache/half/run", "--storage-driver=overlay"} <= set(command)


def test_buildah_contacts_no_registry_and_uses_the_machines_ca_certificates() -> None:
    command = BUILDAH.build("r:1", Path("/images/base/Dockerfile"), Path("/images/base"), {"BASE_IMAGE": "b:1"})
    assert {"--pull=never", "--isolation=chroot", "--layers", "--build-arg=BASE_IMAGE=b:1"} <= set(command)
    assert "--volume=/ca.crt:/ca.crt:ro" in command
    assert command[-1] == "/images/base"


def test_machine_without_a_ca_bundle_mounts_none() -> None:
    bare = images.Buildah(store=Path("/s"), scratch=Path("/h"), ca_bundle=None)
    assert not any(
        word.startswith("--volume")
        for word in bare.build("r:1", Path("/images/base/Dockerfile"), Path("/images/base"), {})
    )


def test_local_base_uses_the_machines_debian_mirror() -> None:
    command = BUILDAH.debian(Path("/cache/half/root.tar"))
    assert command[-len(images.MMDEBSTRAP) - 1 :] == (*images.MMDEBSTRAP, "/cache/half/root.tar")
    assert not any("://" in word for word in command)


# ---- builders' output


@pytest.mark.parametrize(
    ("line", "far"),
    [
        ("STEP 2/7: WORKDIR /srv", (2, 7, "WORKDIR /srv")),
        ("[1/2] STEP 3/4: COPY pause.c /build/", (3, 4, "COPY pause.c /build/")),
        ("#7 [build 2/4] RUN make", (2, 4, "RUN make")),
        ("#5 [2/4] RUN make", (2, 4, "RUN make")),
        ("Step 2/4 : RUN make", (2, 4, "RUN make")),
        (f"STEP 2/7: RUN {'make ' * 20}", (2, 7, "RUN make make make make make make make make make make make …")),
        ("I: extracting archives...", (0, 1, "extracting archives...")),
        ("#1 [internal] load build definition from Dockerfile", None),
        ("Get:1 bookworm/main amd64 gcc 1/2", None),
    ],
)
def test_line_of_output_shows_the_progress_of_a_build(line: str, far: tuple[int, int, str] | None) -> None:
    assert images.progress(line) == far


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        pytest.param(
            """
            STEP 2/2: RUN apt-get update && apt-get install --yes nothing something-else
            E: Unable to locate package nothing
            E: Unable to locate package something-else
            subprocess exited with status 100
            Error: building at STEP "RUN apt-get …": exit status 100
            """,
            "RUN apt-get update && apt-get install --yes nothing …: E: Unable to locate package nothing",
            id="apt",
        ),
        pytest.param(
            """
            [1/2] STEP 1/4: FROM localhost/aether/debian:1 AS build
            error: of an earlier step
            [1/2] STEP 4/4: RUN gcc pause.c
            pause.c:28:1: error: unknown type name 'broken'
               28 | broken
                  | ^~~~~~
            subprocess exited with status 1
            Error: building at STEP "RUN gcc pause.c": exit status 1
            """,
            "RUN gcc pause.c: pause.c:28:1: error: unknown type name 'broken'",
            id="a compiler",
        ),
        pytest.param(
            """
            STEP 2/2: RUN python3 -m nope
            Looking for it
            /usr/bin/python3: No module named nope
            subprocess exited with status 1
            Error: building at STEP "RUN python3 -m nope": exit status 1
            """,
            "RUN python3 -m nope: /usr/bin/python3: No module named nope",
            id="the last line of a program",
        ),
        pytest.param(
            """
            STEP 2/2: COPY nope /
            Error: building at STEP "COPY nope /": copier: stat: "/nope": no such file or directory
            """,
            'COPY nope /: Error: building at STEP "COPY nope /": copier: stat: "/nope": no such file or directory',
            id="the builder itself",
        ),
        pytest.param(
            """
            #5 [2/2] RUN make
            #5 0.345 make: *** No targets specified and no makefile found.  Stop.
            #5 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
            ------
             > [2/2] RUN make:
            ------
            ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2
            """,
            "RUN make: make: *** No targets specified and no makefile found.  Stop.",
            id="docker",
        ),
        pytest.param(
            """
            I: running apt-get update...
            E: The repository 'bookwurm Release' does not have a Release file.
            E: apt-get update --error-on=any failed
            I: removing tempdir /tmp/mmdebstrap.5AaIy5ovE8...
            E: mmdebstrap failed to run
            """,
            "E: The repository 'bookwurm Release' does not have a Release file.",
            id="mmdebstrap",
        ),
        pytest.param("", "", id="no output"),
    ],
)
def test_cause_of_a_failed_build_is_the_failing_programs_output(output: str, cause: str) -> None:
    lines = [line.removeprefix(" " * 12) for line in output.splitlines()]
    assert images.cause(lines) == cause


# ---- loading


def test_node_is_given_only_the_images_it_lacks() -> None:
    pause, base = a_built_image("pause"), a_built_image("base")
    put: list[Path] = []
    recorder = ProgressRecorder()
    loaded = image_builder.load([pause, base], lambda: {pause.reference, "other:1"}, put.append, recorder)
    assert loaded == [base.reference]
    assert put == [base.archive]
    assert recorder.lines == ["load base", "1.5 MB"]


def test_node_with_all_images_is_left_alone() -> None:
    pause = a_built_image("pause")
    put: list[Path] = []
    recorder = ProgressRecorder()
    assert image_builder.load([pause], lambda: {pause.reference}, put.append, recorder) == []
    assert put == []
    assert recorder.lines == []


def test_several_images_load_concurrently_and_are_reported_as_one_step() -> None:
    both = threading.Barrier(2, timeout=20)
    recorder = ProgressRecorder()
    names = ["kafka", "nats", "postgres", "redis"]

    def put(_: Path) -> None:
        both.wait()

    loaded = image_builder.load([a_built_image(one) for one in names], set, put, recorder, parallel=2)
    assert loaded == [a_built_image(one).reference for one in names]
    assert (recorder.lines[0], recorder.lines[-1]) == ("load images", "6.0 MB: kafka, nats, postgres, redis")
    assert len(recorder.lines) == 2 + len(names)


def test_an_image_that_cannot_be_loaded_fails_all_of_them() -> None:
    def put(archive: Path) -> None:
        if "nats" in archive.name:
            raise problems.ProgramFailed("no space left")

    with pytest.raises(problems.ProgramFailed, match="no space left"):
        image_builder.load(
            [a_built_image(one) for one in ("kafka", "nats", "redis")], set, put, ProgressRecorder(), parallel=2
        )
