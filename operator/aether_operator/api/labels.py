"""The labels and annotations that the operator sets, and the names it gives. Values only.

An owner's labels are never copied to a child: GitOps tools track by label and would prune what they find.
"""

from __future__ import annotations

from typing import Final

from aether_operator.api.models import GROUP

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "aether-operator"
"""The value of `MANAGED_BY`, and the one field manager."""
COMPONENT: Final = "app.kubernetes.io/component"
PLATFORM: Final = f"{GROUP}/platform"
"""The platform's name, on each of its children."""
CREDENTIALS: Final = f"{GROUP}/credentials"
"""Which credentials a Secret holds and a pod was started with: a random word made with them, which tells nothing."""
SETTINGS: Final = f"{GROUP}/settings"
"""A digest of the live settings that a ConfigMap holds; on a pod, of those that it was last told to look at."""
OPERATOR_POD: Final[dict[str, str]] = {"app.kubernetes.io/name": OPERATOR}
"""What the chart labels the operator's pods with; network policies let these in."""


def prometheus_annotations(port: int, path: str) -> dict[str, str]:
    """The annotations of a pod by which a Prometheus that goes by them finds its metrics."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": path}


def for_child(platform: str, component: str) -> dict[str, str]:
    """The labels of a child."""
    return {MANAGED_BY: OPERATOR, PLATFORM: platform, COMPONENT: component}


def selector(platform: str, component: str) -> dict[str, str]:
    """What selects a component's pods."""
    return {PLATFORM: platform, COMPONENT: component}
