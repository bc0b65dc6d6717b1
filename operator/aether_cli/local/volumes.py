"""The pool of local volumes: which exist, which should, and what to do about the difference. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_cli.local import configs, networks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CLASS: Final = "aether-local"
SPARE: Final = 8
"""How many volumes wait for a claim at any time."""
CAPACITY: Final = "100Gi"
"""What a volume says it holds. Nothing enforces it: the limit is the machine's disk."""
PROVISIONER: Final = "local.aether.io/pool"


@dataclass(frozen=True, slots=True)
class Create:
    """Make the folder, then the volume."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the data, then the volume: its claim is gone, and the class says Delete."""

    name: str


Action = Create | Remove


def plan(
    volumes: Iterable[dict[str, Any]], *, mounted: Callable[[str], bool], new_name: Callable[[], str]
) -> list[Action]:
    """What keeps the pool true, in order.

    Args:
        volumes: PersistentVolumes as the API server shows them.
        mounted: Whether some pod still holds this volume; it must have let go before the data goes, or the old
            pod's group would stay on what comes next.
        new_name: Makes a name that was never used.
    """
    ours = [volume for volume in volumes if volume["spec"].get("storageClassName") == CLASS]
    phases = Counter(_phase(volume) for volume in ours)
    freed = [
        volume["metadata"]["name"]
        for volume in ours
        if _phase(volume) == "Released"
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        and "deletionTimestamp" not in volume["metadata"]
    ]
    removals: Sequence[Action] = [Remove(name) for name in freed if not mounted(name)]
    spare = phases["Available"] + phases["Pending"]
    return [*removals, *(Create(new_name()) for _ in range(SPARE - spare))]


def _phase(volume: dict[str, Any]) -> str:
    return str(volume.get("status", {}).get("phase", "Pending"))


def volume(name: str) -> dict[str, Any]:
    """A PersistentVolume on a folder of the pool."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            # With the name of somebody else as its maker, the volume controller leaves its deletion to that somebody.
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": {"path": f"{configs.VOLUMES}/{name}"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "kubernetes.io/hostname", "operator": "In", "values": [networks.NODE_NAME]}
                            ]
                        }
                    ]
                }
            },
        },
    }


def storage_class() -> dict[str, Any]:
    """The default class: a claim waits for its first pod, then gets a volume of the pool."""
    return _default("kubernetes.io/no-provisioner", "WaitForFirstConsumer")


def empty_storage_class() -> dict[str, Any]:
    """The default class where no pod really runs: the controllers bind a claim to an empty folder at once."""
    return _default("kubernetes.io/host-path", "Immediate")


def _default(provisioner: str, binding: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": provisioner,
        "volumeBindingMode": binding,
        "reclaimPolicy": "Delete",
    }
