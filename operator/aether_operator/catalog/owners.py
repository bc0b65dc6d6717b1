"""Where the owner of a server is recorded, for each kind of server. Data only."""

from __future__ import annotations

from typing import Final

from aether_operator.catalog.topics import Topic

SCHEMA: Final = "aether"
"""PostgreSQL: the schema of the table `ownership`, whose only row is the owner, and of the table `fence`.

A database has both once, whichever schemas it has. It is the platform's in databases of every release: the tables stay.
"""
ROLE_COMMENT: Final = "aether: {description} for {owner}"
"""PostgreSQL: the comment of a role, which belongs to the whole server."""
TOPIC: Final = Topic(name="aether.owner", kept_days=None, partitions=1)
"""Kafka: the first record of this topic, which is never deleted."""
STREAM: Final = "AETHER_OWNER"
"""NATS: the description of this JetStream stream; a second stream of the name cannot be created."""
SUBJECT: Final = "aether.owner"
"""The subject of the stream, which must have one; nothing is published there."""
KEY: Final = "aether:owner"
"""Redis: the value of this key."""
