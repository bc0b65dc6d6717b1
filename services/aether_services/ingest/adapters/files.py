"""The live settings of ingest, from their file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_services.domain.instruments import Symbol
from aether_services.ingest.ports import LiveSettings
from aether_services.ingest.schemas import LiveDocument
from aether_services.kit.live_settings import LiveSettingsFile

if TYPE_CHECKING:
    from pathlib import Path


class LiveFile:
    """Reads the live settings from a file."""

    def __init__(self, path: Path) -> None:
        self._file = LiveSettingsFile(path, LiveDocument)

    def read(self) -> LiveSettings | None:
        found = self._file.read()
        if found is None:
            return None
        return LiveSettings(
            pairs=frozenset(Symbol(pair) for pair in found.document.pairs),
            replicas=found.document.replicas,
            digest=found.digest,
        )
