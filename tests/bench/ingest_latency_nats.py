"""`make bench B=ingest-latency-nats`: see aether_testing.latencies."""

from aether_testing.latencies import of_nats as figures

__all__ = ["figures"]
