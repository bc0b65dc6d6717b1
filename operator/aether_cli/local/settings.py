"""What a person or a test chooses about a cluster. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Profile(StrEnum):
    """How much of a cluster there is."""

    CONTROL_PLANE = "control-plane"
    """etcd, API server, controllers: enough for everything that is only objects."""
    NODE = "node"
    """All of it: pods run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One cluster's choices.

    Args:
        profile: How much of a cluster.
        port: The loopback port of the API server on the machine; 0 lets the machine choose.
        egress: Whether pods may reach the network of the machine.
        kwok: Whether pods become Ready without a node (control-plane only).
        durable: Whether the store and the images of pods are on the disk, and etcd waits for it. Off only for
            clusters that a test throws away: theirs are in memory. Volumes are on the disk in any case.
        platforms: Whether the node gets the images that the operator and platforms run. Off only for tests whose pods
            are of the base image: most of a start is this.
        owned: Whether it ends with the process that started it, however that ends. For tests, too.
    """

    profile: Profile = Profile.NODE
    port: int = 16443
    egress: bool = False
    kwok: bool = False
    durable: bool = True
    platforms: bool = True
    owned: bool = False

    @property
    def has_node(self) -> bool:
        """Whether real pods can run."""
        return self.profile is Profile.NODE

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, record: dict[str, Any]) -> Self:
        """The inverse of `record`; what the release that started the cluster did not know is as it was then."""
        values = {field.name: record.get(field.name, field.default) for field in fields(cls)}
        return cls(**{**values, "profile": Profile(values["profile"])})
