"""The kinds of objects that the operator reads and writes, and references to objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models, platform_definition

if TYPE_CHECKING:
    from aether_operator.api.definition import Definition

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind of object."""

    api_version: str
    kind: str
    plural: str
    verbs: tuple[str, ...] = ()
    """The operator's rights to objects of this kind, as in its Role; those to our own kinds are in the chart."""

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def base(self) -> str:
        """The path of its API group."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"


def of_definition(definition: Definition) -> Kind:
    """One of our own kinds."""
    return Kind(models.API_VERSION, definition.kind, definition.plural)


_READ: Final = ("get", "list", "watch")
_APPLY: Final = (*_READ, "create", "patch")  # server-side apply of a new object needs both of these
_OWN: Final = (*_APPLY, "delete")

PLATFORMS: Final = of_definition(platform_definition.DEFINITION)
# Of Secrets and PersistentVolumeClaims none is ever deleted: data outlives its platform.
SECRETS: Final = Kind("v1", "Secret", "secrets", _APPLY)
CONFIG_MAPS: Final = Kind("v1", "ConfigMap", "configmaps", _OWN)
SERVICES: Final = Kind("v1", "Service", "services", _OWN)
CLAIMS: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", _APPLY)
POLICIES: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", _OWN)
BUDGETS: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", _OWN)
STATEFUL_SETS: Final = Kind("apps/v1", "StatefulSet", "statefulsets", _OWN)
# list: why a pod or a volume could not be created
EVENTS: Final = Kind("events.k8s.io/v1", "Event", "events", ("create", "list", "patch"))
# patch: one annotation, upon which the kubelet syncs the pod's ConfigMaps at once
PODS: Final = Kind("v1", "Pod", "pods", ("list", "watch", "patch"))


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The kind and name of an object within a namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def ref(thing: Manifest) -> Ref:
    """The reference of an object."""
    return Ref(thing["kind"], thing["metadata"]["name"])
