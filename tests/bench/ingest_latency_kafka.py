"""`make bench B=ingest-latency-kafka`: see aether_testing.bench.latencies."""

from aether_testing.bench.latencies import of_kafka as figures

__all__ = ["figures"]
