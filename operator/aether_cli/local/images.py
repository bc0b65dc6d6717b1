"""Which images the local cluster has, under which key a build of each is kept, and how it is built. Values only."""

from __future__ import annotations

import hashlib
import itertools
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

DEBIAN: Final = "debian"
"""The local base: without Docker it stands in for whichever Debian or Python image a Dockerfile names."""
ROOT_TAR: Final = "root.tar"
DEBIAN_DOCKERFILE: Final = f"""FROM scratch
ADD {ROOT_TAR} /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["bash"]
"""
MMDEBSTRAP: Final = (
    "mmdebstrap",
    "--variant=minbase",
    "--include=python3,python3-venv,ca-certificates",
    # As in the slim images that it stands in for: nobody reads a manual in a container.
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "info", "locale")),
    "bookworm",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of ours: its name, the folder of its Dockerfile under images/, and the image it is built on.

    The folder is the whole build context. With `extra`, files and folders of the repository, the context is the
    repository, but of that only these and the folder: its Dockerfile copies by paths from the repository's root.
    """

    name: str
    folder: str
    base: str = DEBIAN
    extra: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """What of the repository is in the build context."""
        return (f"images/{self.folder}", *self.extra)

    @property
    def dockerfile(self) -> str:
        """Where the Dockerfile is in the build context."""
        return f"images/{self.folder}/Dockerfile" if self.extra else "Dockerfile"


CATALOGUE: Final = (
    Image(name="pause", folder="local/pause"),
    Image(name="base", folder="base"),
    Image(name="operator", folder="operator", base="base", extra=("operator/aether_operator",)),
    Image(name="service", folder="service", base="base", extra=("services/aether_services",)),
    *(Image(name=server, folder=f"local/{server}") for server in ("postgres", "kafka", "nats", "redis")),
)

BARE: Final = frozenset({"pause", "base"})
"""Those that a node has without platforms."""


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of a build context; of a link, the data is where it leads."""

    name: str
    mode: int
    data: bytes


def key(files: Iterable[File], arguments: Mapping[str, str]) -> str:
    """Changes when, and only when, a build is given something else; a base counts by its reference in the arguments."""
    given = [(file.name, file.mode, file.data) for file in sorted(files)], sorted(arguments.items())
    return hashlib.sha256(repr(given).encode()).hexdigest()[:12]


def reference(name: str, key: str) -> str:
    """What a pod, and the machine's builder, call this build of an image."""
    return f"localhost/aether/{name}:{key}"


def archive(reference: str) -> str:
    """The file name under which a build is kept."""
    return reference.rpartition("/")[2].replace(":", "-") + ".tar"


_KEY: Final = re.compile(r"[0-9a-f]{12}(?=(\.tar)?$)")


def older(names: Iterable[str], current: str) -> list[str]:
    """Those names, of references or of archives, that are other builds of the same image."""
    return [name for name in names if name != current and _KEY.sub("", name) == _KEY.sub("", current)]


def arguments(image: Image, references: Mapping[str, str]) -> dict[str, str]:
    """The build arguments: none where the base that the Dockerfile names is meant."""
    return {"BASE_IMAGE": references[image.base]} if image.base in references else {}


def references(catalogue: Sequence[Image], contexts: Mapping[str, Iterable[File]], *, docker: bool) -> dict[str, str]:
    """Image name → reference, a base before what is built on it; without Docker the local base is the first."""
    made_from = [File("Dockerfile", 0o644, DEBIAN_DOCKERFILE.encode())]
    found = {} if docker else {DEBIAN: reference(DEBIAN, key(made_from, {"made by": " ".join(MMDEBSTRAP)}))}
    for image in catalogue:
        found[image.name] = reference(image.name, key(contexts[image.name], arguments(image, found)))
    return found


def _assigned(arguments: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in arguments.items()]


class Docker:
    """The command lines for the machine's Docker engine."""

    def listed(self) -> tuple[str, ...]:
        """Prints references, one in a line; so does Buildah's."""
        return ("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}")

    def build(self, reference: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> tuple[str, ...]:
        return ("docker", "build", f"--tag={reference}", f"--file={dockerfile}", *_assigned(arguments), str(context))

    def save(self, reference: str, archive: Path) -> tuple[str, ...]:
        return ("docker", "save", f"--output={archive}", reference)

    def remove(self, reference: str) -> tuple[str, ...]:
        return ("docker", "image", "rm", reference)


# Mounts and processes of its own: gone with its first process, which is gone when we are.
_NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_UNSHARE: Final = ("setpriv", "--pdeathsig=KILL", *_NAMESPACES)


_NOTHING_LASTS: Final = """
mount -t tmpfs tmpfs /var/lib
printf '[network]\\nnetwork_config_dir = "/var/lib/cni"\\n' >/var/lib/containers.conf
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildah:
    """The command lines for Buildah, which needs no engine: its store is ours, its scratch is thrown away.

    `authorities` is the machine's bundle of certificate authorities, where there is one: builds trust whom it trusts.
    """

    store: Path
    scratch: Path
    ca_bundle: Path | None

    def _buildah(self, *words: str) -> tuple[str, ...]:
        return (
            # Wherever its store is, it keeps a cache of its own under /var/lib and a lock under /etc/cni: here, neither
            # lasts.
            *(*_UNSHARE, "sh", "-ec", _NOTHING_LASTS, "sh"),
            *("env", "CONTAINERS_CONF=/var/lib/containers.conf", f"TMPDIR={self.scratch}"),
            *("buildah", f"--root={self.store}", f"--runroot={self.scratch / 'run'}", "--storage-driver=overlay"),
            *words,
        )

    def debian(self, archive: Path) -> tuple[str, ...]:
        """Makes the local base's root file system, from where this mmdebstrap thinks Debian comes from."""
        return (*_UNSHARE, "env", f"TMPDIR={self.scratch}", *MMDEBSTRAP, str(archive))

    def listed(self) -> tuple[str, ...]:
        return self._buildah("images", "--format={{.Name}}:{{.Tag}}")

    def build(self, reference: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> tuple[str, ...]:
        trust = () if self.ca_bundle is None else (f"--volume={self.ca_bundle}:{self.ca_bundle}:ro",)
        how = ("--isolation=chroot", "--layers", "--force-rm", "--pull=never", f"--tag={reference}")
        return self._buildah("bud", *how, f"--file={dockerfile}", *trust, *_assigned(arguments), str(context))

    def save(self, reference: str, archive: Path) -> tuple[str, ...]:
        return self._buildah("push", "--quiet", reference, f"oci-archive:{archive}:{reference}")

    def remove(self, reference: str) -> tuple[str, ...]:
        return self._buildah("rmi", reference)

    def clear(self) -> tuple[str, ...]:
        """Removes what builds that were killed left in the store."""
        return self._buildah("rm", "--all")


Engine = Docker | Buildah

# Buildah's "[1/2] STEP 2/4: RUN …", BuildKit's "#7 [build 2/4] RUN …", the older Docker's "Step 2/4 : RUN …".
_STEP: Final = re.compile(r"(?:(?:\[\d+/\d+\] )?STEP |Step |#\d+ \[(?:\S+ )?)(\d+)/(\d+)(?: ?: |\] )(.*)")
_ERROR: Final = re.compile(r"E: |(.* )?error: ", re.IGNORECASE)
_BUILDERS_WORDS: Final = re.compile(r'subprocess exited with|Error: building at STEP|time="|#\d+ ERROR: ')


def progress(line: str) -> tuple[int, int, str] | None:
    """How far a build is, where this line of its output says so."""
    if step := _STEP.match(line):
        return int(step[1]), int(step[2]), textwrap.shorten(step[3], 60, placeholder=" …")
    return (0, 1, line.removeprefix("I: ")) if line.startswith("I: ") else None  # mmdebstrap's


def cause(lines: Sequence[str]) -> str:
    """Why a build failed, and in which step: in the words of the program that failed, not in the builder's about it."""
    said = [re.sub(r"#\d+ [\d.]+ ", "", line) for line in lines if line.strip()]
    steps = [(nth, step[3]) for nth, line in enumerate(said) if (step := _STEP.match(line))]
    if not steps:
        return _first_error(said)
    after = said[steps[-1][0] + 1 :]
    own = list(itertools.takewhile(lambda line: not _BUILDERS_WORDS.match(line), after))
    return f"{textwrap.shorten(steps[-1][1], 60, placeholder=' …')}: {_first_error(own or after)}"


def _first_error(lines: Sequence[str]) -> str:
    # apt, compilers and pip say the cause first, and then at length what follows from it; others say it last.
    return next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "")
