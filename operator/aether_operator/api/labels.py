"""The labels and annotations that the operator sets, and its field manager. Values only.

An owner's labels are never copied to a child: GitOps tools track objects by label and would prune the child.
"""

from __future__ import annotations

from typing import Final

from aether_operator.api.models import GROUP

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "aether-operator"
"""The value of `MANAGED_BY`, and the field manager of the operator's server-side applies."""
COMPONENT: Final = "app.kubernetes.io/component"
PLATFORM: Final = f"{GROUP}/platform"
"""The name of the platform that a child belongs to."""
CREDENTIALS: Final = f"{GROUP}/credentials"
"""Identifies the credentials in a Secret, and those a pod was started with: a random id, not derived from them."""
SETTINGS: Final = f"{GROUP}/settings"
"""A digest of the live settings in a ConfigMap; on a pod, of the settings that the operator last synced to it."""
OPERATOR_POD: Final[dict[str, str]] = {"app.kubernetes.io/name": OPERATOR}
"""The labels that the chart puts on the operator's pods; network policies admit them."""


def prometheus_annotations(port: int, path: str) -> dict[str, str]:
    """The pod annotations by which Prometheus discovers a metrics endpoint."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": path}


def for_child(platform: str, component: str) -> dict[str, str]:
    """The labels of a platform's child."""
    return {MANAGED_BY: OPERATOR, PLATFORM: platform, COMPONENT: component}


def selector(platform: str, component: str) -> dict[str, str]:
    """The label selector of a component's pods."""
    return {PLATFORM: platform, COMPONENT: component}
