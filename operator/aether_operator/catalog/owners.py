"""What the owner of a server is written down under, on each kind of server. Data only.

Of the database it is the row of the table `aether.ownership`.
"""

from __future__ import annotations

from typing import Final

from aether_operator.catalog.topics import Topic

TOPIC: Final = Topic(name="aether.owner", kept_days=None, partitions=1)
"""Kafka: the value of its first record. The topic is never deleted."""
STREAM: Final = "AETHER_OWNER"
"""NATS: the description of this JetStream stream, which no other can be made beside."""
SUBJECT: Final = "aether.owner"
"""What the stream listens to, since it has to listen to something; nobody speaks there."""
KEY: Final = "aether:owner"
"""Redis: the value of this key."""
