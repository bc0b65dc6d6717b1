"""The only speaker to our own rooms: asks each pod how it is. Changes nothing over there."""

from __future__ import annotations

from aether_operator.service_status.client import ask

__all__ = ["ask"]
