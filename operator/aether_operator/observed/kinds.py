"""The kinds of objects that the operator reads and writes, and references to objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aether_operator.api import models, platforms

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind of object."""

    api_version: str
    kind: str
    plural: str

    @property
    def base(self) -> str:
        """The path of its API group."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"


PLATFORMS: Final = Kind(models.API_VERSION, platforms.KIND, platforms.PLURAL)
SECRETS: Final = Kind("v1", "Secret", "secrets")
CONFIG_MAPS: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICES: Final = Kind("v1", "Service", "services")
CLAIMS: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POLICIES: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
BUDGETS: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
STATEFUL_SETS: Final = Kind("apps/v1", "StatefulSet", "statefulsets")
EVENTS: Final = Kind("events.k8s.io/v1", "Event", "events")
PODS: Final = Kind("v1", "Pod", "pods")

CHILDREN: Final = (SECRETS, CONFIG_MAPS, SERVICES, CLAIMS, POLICIES, BUDGETS, STATEFUL_SETS)
"""The kinds of a platform's children, in the order in which they are applied."""
_BY_NAME: Final = {(kind.api_version, kind.kind): kind for kind in (PLATFORMS, *CHILDREN, PODS)}


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


def of_child(which: Ref) -> Kind:
    """The kind of a referenced child."""
    (found,) = [kind for kind in CHILDREN if kind.kind == which.kind]
    return found


def of(thing: Manifest) -> Kind:
    """The kind of an object."""
    return _BY_NAME[thing["apiVersion"], thing["kind"]]
