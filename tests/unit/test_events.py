"""Kubernetes Events: notes within the API server's limit."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio import client

from aether_operator.kube import api_client, events

PLATFORM = {
    "apiVersion": "trading.aether.io/v1alpha1",
    "kind": "TradingPlatform",
    "metadata": {"name": "paper", "namespace": "desk", "uid": "u"},
}


class Recorder(api_client.Api):
    """Keeps the notes that are written."""

    def __init__(self) -> None:
        super().__init__(configuration=client.Configuration(host="http://nowhere"))
        self.notes: list[str] = []
        self.types: list[str] = []

    async def write(self, method: str, where: str, what: str, **rest: Any) -> Any:
        assert (method, what) == ("POST", "Event"), where
        self.notes.append(rest["body"]["note"])
        self.types.append(rest["body"]["type"])


@pytest.mark.parametrize(
    ("note", "written"),
    [
        ("the disk is full", "the disk is full"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1021 + "…"),
        ("é" * 512, "é" * 512),
        ("é" * 513, "é" * 510 + "…"),
        ("ディスク" * 250, "ディスク" * 85 + "…"),
        ("half \ud83d", "half ?"),
    ],
)
async def test_event_note_has_as_many_bytes_as_the_api_accepts(note: str, written: str) -> None:
    api = Recorder()
    await events.EventRecorder(api=api, instance="one").emit(PLATFORM, "Failed", note, action="Reconcile")
    assert api.notes == [written]
    assert len(written.encode()) <= 1024


async def test_event_of_another_type_is_not_a_repetition() -> None:
    api = Recorder()
    recorder = events.EventRecorder(api=api, instance="one")
    for warning in (False, True):
        await recorder.emit(PLATFORM, "Unreachable", "no response", action="Reconcile", warning=warning)
    assert api.types == ["Normal", "Warning"]
