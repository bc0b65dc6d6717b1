"""HTTP client of the services' /status endpoint. It only reads."""

from __future__ import annotations

from aether_operator.service_status.client import query

__all__ = ["query"]
