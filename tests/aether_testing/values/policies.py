"""Who may reach whom: NetworkPolicies of a whole cluster, evaluated by the rules of networking.k8s.io/v1.

A local cluster does not enforce them; this says what one that does would do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Policy = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A cluster's policies, and its namespaces' labels."""

    policies: tuple[Policy, ...]
    namespaces: Mapping[str, Mapping[str, str]]

    def allows(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Whether policies allow a connection: egress of the source, and ingress of the target."""
        leaves = self._one_way("Egress", "egress", "to", source, target, port, protocol)
        return leaves and self._one_way("Ingress", "ingress", "from", target, source, port, protocol)

    def reachable(self, pods: Iterable[Pod], ports: Iterable[int]) -> set[tuple[str, str, int]]:
        """All permitted connections: (source, target, port), each pod as `namespace/name`."""
        known, tried = list(pods), list(ports)
        return {
            (f"{one.namespace}/{one.name}", f"{other.namespace}/{other.name}", port)
            for one in known
            for other in known
            if one != other
            for port in tried
            if self.allows(one, other, port)
        }

    def _one_way(  # noqa: PLR0913 - one function for both directions
        self, way: str, rules: str, peers: str, inside: Pod, outside: Pod, port: int, protocol: str
    ) -> bool:
        around = [one for one in self.policies if self._is_around(one, inside) and way in _types(one)]
        return not around or any(
            self._matches_peer(rule.get(peers), outside, one["metadata"]["namespace"])
            and _matches_port(rule.get("ports"), port, protocol)
            for one in around
            for rule in one["spec"].get(rules) or ()
        )

    @staticmethod
    def _is_around(policy: Policy, pod: Pod) -> bool:
        same = policy["metadata"]["namespace"] == pod.namespace
        return same and selects(policy["spec"].get("podSelector") or {}, pod.labels)

    def _matches_peer(self, peers: list[Any] | None, pod: Pod, namespace: str) -> bool:
        return not peers or any(self._is_peer(peer, pod, namespace) for peer in peers)

    def _is_peer(self, peer: dict[str, Any], pod: Pod, namespace: str) -> bool:
        if "ipBlock" in peer:
            return False  # pods have no address here
        if "namespaceSelector" in peer:
            within = selects(peer["namespaceSelector"], self.namespaces[pod.namespace])
        else:
            within = pod.namespace == namespace
        return within and selects(peer.get("podSelector") or {}, pod.labels)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all."""
    exact = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _holds(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"no operator of selectors: {other}")


def _types(policy: Policy) -> list[str]:
    spec = policy["spec"]
    named: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return named


def _matches_port(ports: list[Any] | None, port: int, protocol: str) -> bool:
    return not ports or any(
        one.get("protocol", "TCP") == protocol
        and ("port" not in one or one["port"] <= port <= one.get("endPort", one["port"]))
        for one in ports
    )
