"""Ingest without I/O: messages, books, trade logs, outboxes, sharding, subscriptions."""
