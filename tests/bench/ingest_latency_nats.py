"""`make bench B=ingest-latency-nats`: see aether_testing.bench.latencies."""

from aether_testing.bench.latencies import of_nats as figures

__all__ = ["figures"]
