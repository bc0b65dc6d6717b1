"""Where the owner of a server is recorded, for each kind of server. Data only.

In PostgreSQL it is a row of the table `aether.ownership`.
"""

from __future__ import annotations

from typing import Final

from aether_operator.catalog.topics import Topic

TOPIC: Final = Topic(name="aether.owner", kept_days=None, partitions=1)
"""Kafka: the first record of this topic, which is never deleted."""
STREAM: Final = "AETHER_OWNER"
"""NATS: the description of this JetStream stream; a second stream of the name cannot be created."""
SUBJECT: Final = "aether.owner"
"""The subject of the stream, which must have one; nothing is published there."""
KEY: Final = "aether:owner"
"""Redis: the value of this key."""
