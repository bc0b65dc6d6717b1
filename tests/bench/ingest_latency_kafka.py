"""`make bench B=ingest-latency-kafka`: see aether_testing.latencies."""

from aether_testing.latencies import of_kafka as figures

__all__ = ["figures"]
