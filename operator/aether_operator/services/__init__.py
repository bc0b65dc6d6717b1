"""The only speaker to our own rooms: asks each pod how it is. Changes nothing over there."""

from __future__ import annotations

from aether_operator.services.asking import ask

__all__ = ["ask"]
