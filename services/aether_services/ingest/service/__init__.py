"""The service of ingest: receives market data, shares the markets among replicas, and delivers to the outputs."""

from aether_services.ingest.service.ingest import Ingest

__all__ = ["Ingest"]
