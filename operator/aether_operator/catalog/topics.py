"""What a topic of a platform's Kafka is, and how it is set up; the rooms say which there are. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICAS: Final = 3
"""Copies of a partition, where there are as many brokers."""
_DAY: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic. Its key is the market, so that one market's messages stay in order."""

    name: str
    kept_days: int | None
    """None: for good."""
    partitions: int = 6

    def configs(self, replicas: int) -> Mapping[str, str]:
        """What we declare of it, where a partition has so many copies: one may be away, and writing goes on."""
        declared = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "min.insync.replicas": str(max(1, min(replicas, REPLICAS) - 1)),
        }
        if self.kept_days is None:
            return declared | {"retention.bytes": "-1", "retention.ms": "-1"}
        return declared | {"retention.ms": str(self.kept_days * _DAY)}
