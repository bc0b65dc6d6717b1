"""The live settings: a file from a ConfigMap that the operator writes."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from aether_services.domain.instruments import Symbol
from aether_services.ingest.ports import LiveSettings
from aether_services.ingest.schemas import LiveDocument

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class LiveFile:
    """Reads the live settings from a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_error = ""

    def read(self) -> LiveSettings | None:
        try:
            text = self._path.read_text(encoding="utf-8")
            document = LiveDocument.model_validate_json(text)
        except (OSError, ValueError) as fault:  # missing, not UTF-8, or invalid
            if str(fault) != self._last_error:
                self._last_error = str(fault)
                log.error("live_settings_rejected", extra={"path": str(self._path), "cause": str(fault)})  # noqa: TRY400
            return None
        self._last_error = ""
        return LiveSettings(
            pairs=frozenset(Symbol(pair) for pair in document.pairs),
            replicas=document.replicas,
            digest=hashlib.sha256(text.encode()).hexdigest()[:12],
        )
