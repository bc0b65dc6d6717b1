"""The pool of local volumes: what to create and to delete, and the StorageClasses. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_cli.local import configs, networks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CLASS: Final = "aether-local"
SPARE: Final = 8
"""How many unclaimed volumes the pool has."""
CAPACITY: Final = "100Gi"
"""A volume's nominal capacity. Nothing enforces it: the limit is the machine's disk."""
PROVISIONER: Final = "local.aether.io/pool"


@dataclass(frozen=True, slots=True)
class Create:
    """Create the folder, then the PersistentVolume."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the data, then the PersistentVolume: its claim is deleted, and its reclaim policy is Delete."""

    name: str


Action = Create | Remove


def plan(
    volumes: Iterable[dict[str, Any]], *, mounted: Callable[[str], bool], new_name: Callable[[], str]
) -> list[Action]:
    """The actions that bring the pool to its desired state, in order.

    Args:
        volumes: The cluster's PersistentVolumes.
        mounted: Whether a pod still has the volume of this name mounted; its data are deleted only when none has.
        new_name: Returns a new unique name.
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
    """The PersistentVolume of a folder of the pool."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            # Tells the controller manager's volume controller that another provisioner deletes the volume.
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
    """The default StorageClass: a claim waits for its first pod, then binds to a volume of the pool."""
    return _default("kubernetes.io/no-provisioner", "WaitForFirstConsumer")


def empty_storage_class() -> dict[str, Any]:
    """The default StorageClass with kwok: the controller manager binds a claim to an empty folder at once."""
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
