"""The file of live settings: one that cannot be read leaves what was in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aether_services.domain.instruments import Symbol
from aether_services.ingest.adapters.files import LiveFile

if TYPE_CHECKING:
    from pathlib import Path

GOOD = json.dumps({"version": 1, "pairs": ["BTC/USD"], "replicas": 1}).encode()


@pytest.mark.parametrize("written", [None, b"", b"{", b"[]", GOOD[:-1], b"\xff" + GOOD, GOOD.replace(b"1}", b'"x"}')])
def test_invalid_settings_file_is_ignored(written: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    if written is not None:
        path.write_bytes(written)
    live = LiveFile(path)
    assert live.read() is None
    path.write_bytes(GOOD)
    settings = live.read()
    assert settings is not None
    assert (settings.pairs, settings.replicas) == (frozenset({Symbol("BTC/USD")}), 1)
