"""The labels and annotations that the operator sets, and its field manager. Values only.

An owner's labels are never copied to a child: GitOps tools track objects by label and would prune the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api import platforms
from aether_operator.api.models import GROUP

if TYPE_CHECKING:
    from aether_operator.api.owners import Owner

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "aether-operator"
"""The value of `MANAGED_BY`, and the field manager of the operator's server-side applies."""
COMPONENT: Final = "app.kubernetes.io/component"
NAME: Final = "app.kubernetes.io/name"
INSTANCE: Final = "app.kubernetes.io/instance"
PART_OF: Final = "app.kubernetes.io/part-of"
PRODUCT: Final = "aether"
"""The value of `PART_OF`."""
VERSION: Final = "app.kubernetes.io/version"
"""The release, on workloads only: in a pod template it would restart every pod at each release."""
OWNER_KIND: Final = f"{GROUP}/owner-kind"
OWNER_NAME: Final = f"{GROUP}/owner-name"
FINALIZER: Final = f"{GROUP}/operator"
"""Keeps an object of a kind with a finalizer until the operator has undone what it did outside the cluster."""
PLATFORM: Final = f"{GROUP}/platform"
"""The name of the platform that a child belongs to. A child without `OWNER_KIND` and `OWNER_NAME` is that platform's:
releases before these labels applied it. Selectors of a platform's children keep it, since they are immutable."""
CREDENTIALS: Final = f"{GROUP}/credentials"
"""Identifies the credentials in a Secret, and those a pod was started with: a random id, not derived from them."""
SETTINGS: Final = f"{GROUP}/settings"
"""A digest of the live settings in a ConfigMap; on a pod, of the settings that the operator last synced to it."""
OPERATOR_POD: Final[dict[str, str]] = {NAME: OPERATOR}
"""The labels that the chart puts on the operator's pods; network policies admit them."""


def prometheus_annotations(port: int, path: str) -> dict[str, str]:
    """The pod annotations by which Prometheus discovers a metrics endpoint."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": path}


def of_owner(owner: Owner) -> dict[str, str]:
    """The labels that select an owner's children."""
    if owner.kind == platforms.KIND:
        return {PLATFORM: owner.name}
    return {OWNER_KIND: owner.kind, OWNER_NAME: owner.name}


def for_child(owner: Owner, component: str) -> dict[str, str]:
    """The labels of a child, and of its pods."""
    return {
        MANAGED_BY: OPERATOR,
        OWNER_KIND: owner.kind,
        OWNER_NAME: owner.name,
        **of_owner(owner),
        NAME: component,
        INSTANCE: owner.name,
        PART_OF: PRODUCT,
        COMPONENT: component,
    }


def selector(owner: Owner, component: str) -> dict[str, str]:
    """The label selector of a component's pods."""
    return {**of_owner(owner), COMPONENT: component}
