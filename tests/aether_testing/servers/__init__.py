"""Servers on loopback: PostgreSQL, Kafka, NATS, Redis, proxies and fakes, each for the length of a block."""
