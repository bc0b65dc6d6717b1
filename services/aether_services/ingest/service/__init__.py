"""Ingest's service: it receives, shares markets with the other replicas, and keeps each output supplied."""

from aether_services.ingest.service.ingest import Ingest

__all__ = ["Ingest"]
