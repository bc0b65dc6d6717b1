"""The live settings: a JSON file from a ConfigMap that the operator writes, and that may change at any time."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import pydantic

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

Document = TypeVar("Document", bound=pydantic.BaseModel)


@dataclass(frozen=True, slots=True)
class Read(Generic[Document]):
    """The file as it was read; `digest` names its content, in /status too, where the operator compares it."""

    document: Document
    digest: str


class LiveSettingsFile(Generic[Document]):
    """The file, whose content is an instance of a model."""

    def __init__(self, path: Path, model: type[Document]) -> None:
        self._path, self._model = path, model
        self._last_error = ""

    def read(self) -> Read[Document] | None:
        """Read the file; None where that fails, so that the previous settings stay in effect. Logs each error once."""
        try:
            text = self._path.read_text(encoding="utf-8")
            document = self._model.model_validate_json(text)
        except (OSError, ValueError) as fault:  # missing, not UTF-8, or invalid
            if str(fault) != self._last_error:
                self._last_error = str(fault)
                log.error("live_settings_rejected", extra={"path": str(self._path), "cause": str(fault)})  # noqa: TRY400
            return None
        self._last_error = ""
        return Read(document, hashlib.sha256(text.encode()).hexdigest()[:12])
