"""The images of a local cluster: their list, the key of each one's build, and the builders' command lines. No I/O."""

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
"""The local base image: without Docker it replaces the Debian or Python image that a Dockerfile names."""
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
    # As Debian's slim images do.
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "info", "locale")),
    "bookworm",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: its name, the folder of its Dockerfile under images/, and its base image.

    Without `extra` that folder is the build context. With `extra`, files and folders of the repository, the context's
    root is the repository's, with nothing in it but these and the folder.
    """

    name: str
    folder: str
    base: str = DEBIAN
    extra: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The files and folders of the build context, with `extra`; relative to the repository."""
        return (f"images/{self.folder}", *self.extra)

    @property
    def dockerfile(self) -> str:
        """The Dockerfile's path in the build context."""
        return f"images/{self.folder}/Dockerfile" if self.extra else "Dockerfile"


RUNTIME: Final = "services/aether_runtime"
"""The package that operator and services share."""

CATALOGUE: Final = (
    Image(name="pause", folder="local/pause"),
    Image(name="base", folder="base"),
    Image(name="operator", folder="operator", base="base", extra=("operator/aether_operator", RUNTIME)),
    Image(name="service", folder="service", base="base", extra=("services/aether_services", RUNTIME)),
    *(Image(name=server, folder=f"local/{server}") for server in ("postgres", "kafka", "nats", "redis")),
)

WITHOUT_PLATFORMS: Final = frozenset({"pause", "base"})
"""The images that a node without platforms has."""


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of a build context; the data of a symbolic link are its target."""

    name: str
    mode: int
    data: bytes


def key(files: Iterable[File], arguments: Mapping[str, str]) -> str:
    """The key of a build: it changes exactly when the files or the arguments do, the base's reference among them."""
    given = [(file.name, file.mode, file.data) for file in sorted(files)], sorted(arguments.items())
    return hashlib.sha256(repr(given).encode()).hexdigest()[:12]


def reference(name: str, key: str) -> str:
    """The reference of a build of an image, for pods and for the builder."""
    return f"localhost/aether/{name}:{key}"


def archive(reference: str) -> str:
    """The file name of a build's archive."""
    return reference.rpartition("/")[2].replace(":", "-") + ".tar"


_KEY: Final = re.compile(r"[0-9a-f]{12}(?=(\.tar)?$)")


def older(names: Iterable[str], current: str) -> list[str]:
    """Of these names, of references or of archives, those of other builds of the same image."""
    return [name for name in names if name != current and _KEY.sub("", name) == _KEY.sub("", current)]


def arguments(image: Image, references: Mapping[str, str]) -> dict[str, str]:
    """The build arguments; none where the Dockerfile's default base is used."""
    return {"BASE_IMAGE": references[image.base]} if image.base in references else {}


def references(catalogue: Sequence[Image], contexts: Mapping[str, Iterable[File]], *, docker: bool) -> dict[str, str]:
    """Image name → reference, base images first; without Docker the local base is the first."""
    context = [File("Dockerfile", 0o644, DEBIAN_DOCKERFILE.encode())]
    found = {} if docker else {DEBIAN: reference(DEBIAN, key(context, {"made by": " ".join(MMDEBSTRAP)}))}
    for image in catalogue:
        found[image.name] = reference(image.name, key(contexts[image.name], arguments(image, found)))
    return found


def _assigned(arguments: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in arguments.items()]


class Docker:
    """The command lines of the machine's Docker engine."""

    def listed(self) -> tuple[str, ...]:
        """Prints references, one per line; so does Buildah's."""
        return ("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}")

    def build(self, reference: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> tuple[str, ...]:
        return ("docker", "build", f"--tag={reference}", f"--file={dockerfile}", *_assigned(arguments), str(context))

    def save(self, reference: str, archive: Path) -> tuple[str, ...]:
        return ("docker", "save", f"--output={archive}", reference)

    def remove(self, reference: str) -> tuple[str, ...]:
        return ("docker", "image", "rm", reference)


# A separate mount and pid namespace. Everything in it ends with its first process, which ends with ours.
_NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_UNSHARE: Final = ("setpriv", "--pdeathsig=KILL", *_NAMESPACES)


_TEMPORARY_MOUNTS: Final = """
mount -t tmpfs tmpfs /var/lib
printf '[network]\\nnetwork_config_dir = "/var/lib/cni"\\n' >/var/lib/containers.conf
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildah:
    """The command lines of Buildah, which needs no engine; its store is in the cache, its scratch folder temporary.

    `ca_bundle` is the machine's file of trusted CAs, if it has one; builds trust the same.
    """

    store: Path
    scratch: Path
    ca_bundle: Path | None

    def _buildah(self, *words: str) -> tuple[str, ...]:
        return (
            # Wherever its store is, it also writes a cache under /var/lib and a lock under /etc/cni: mounts and
            # settings of its namespace make both temporary.
            *(*_UNSHARE, "sh", "-ec", _TEMPORARY_MOUNTS, "sh"),
            *("env", "CONTAINERS_CONF=/var/lib/containers.conf", f"TMPDIR={self.scratch}"),
            *("buildah", f"--root={self.store}", f"--runroot={self.scratch / 'run'}", "--storage-driver=overlay"),
            *words,
        )

    def debian(self, archive: Path) -> tuple[str, ...]:
        """Creates the local base's root file system, from the package sources that mmdebstrap uses on this machine."""
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
        """Removes working containers that killed builds left in the store."""
        return self._buildah("rm", "--all")


Engine = Docker | Buildah

# Buildah's "[1/2] STEP 2/4: RUN …", BuildKit's "#7 [build 2/4] RUN …", the older Docker's "Step 2/4 : RUN …".
_STEP: Final = re.compile(r"(?:(?:\[\d+/\d+\] )?STEP |Step |#\d+ \[(?:\S+ )?)(\d+)/(\d+)(?: ?: |\] )(.*)")
_ERROR: Final = re.compile(r"E: |(.* )?error: ", re.IGNORECASE)
_BUILDER_LINE: Final = re.compile(r'subprocess exited with|Error: building at STEP|time="|#\d+ ERROR: ')


def progress(line: str) -> tuple[int, int, str] | None:
    """The progress in a line of a build's output: step, number of steps, the step's text; None where it has none."""
    if step := _STEP.match(line):
        return int(step[1]), int(step[2]), textwrap.shorten(step[3], 60, placeholder=" …")
    return (0, 1, line.removeprefix("I: ")) if line.startswith("I: ") else None  # mmdebstrap's


def cause(lines: Sequence[str]) -> str:
    """Why a build failed: its last step, and the first error that the failed program printed, not the builder's."""
    output = [re.sub(r"#\d+ [\d.]+ ", "", line) for line in lines if line.strip()]
    steps = [(nth, step[3]) for nth, line in enumerate(output) if (step := _STEP.match(line))]
    if not steps:
        return _first_error(output)
    after = output[steps[-1][0] + 1 :]
    own = list(itertools.takewhile(lambda line: not _BUILDER_LINE.match(line), after))
    return f"{textwrap.shorten(steps[-1][1], 60, placeholder=' …')}: {_first_error(own or after)}"


def _first_error(lines: Sequence[str]) -> str:
    # apt, compilers and pip print the cause first, then its consequences; other programs print it last.
    return next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "")
