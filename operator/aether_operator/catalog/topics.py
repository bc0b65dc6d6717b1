"""The definition of a Kafka topic, and its configuration; the components say which topics exist. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICAS: Final = 3
"""Replicas of a partition, if there are as many brokers."""
_DAY: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic. Messages are keyed by market, which keeps one market's messages in order."""

    name: str
    kept_days: int | None
    """None: kept forever."""
    partitions: int = 6

    def configs(self, replicas: int) -> Mapping[str, str]:
        """The topic configuration for this many replicas: writes succeed while one replica is away."""
        declared = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "min.insync.replicas": str(max(1, min(replicas, REPLICAS) - 1)),
        }
        if self.kept_days is None:
            return declared | {"retention.bytes": "-1", "retention.ms": "-1"}
        return declared | {"retention.ms": str(self.kept_days * _DAY)}
