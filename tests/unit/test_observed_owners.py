"""Whose a server is, by the record on it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.observed import owners
from aether_operator.observed.owners import Owner

PAPER = Owner(namespace="desk", uid="5d8f", name="paper", venue="Simulated")


def test_a_record_names_the_platform_that_wrote_it() -> None:
    assert owners.read(PAPER.record) == PAPER
    assert owners.refusal(PAPER.record, PAPER) is None
    assert json.loads(PAPER.record) == {
        "namespace": "desk", "namespaceUid": "5d8f", "name": "paper", "venue": "Simulated",
    }  # fmt: skip


@pytest.mark.parametrize("other", [{"namespace": "risk"}, {"uid": "77aa"}, {"name": "live"}])
def test_another_platform_is_named_with_its_venue(other: dict[str, str]) -> None:
    stranger = dataclasses.replace(PAPER, **other)
    refused = owners.refusal(stranger.record, PAPER)
    assert refused is not None
    assert refused.reason is Reason.SERVER_OWNED_BY_ANOTHER
    assert refused.message == f"it belongs to {stranger.text}, venue Simulated"


def test_another_venue_of_the_same_platform_is_refused_with_the_way_out() -> None:
    refused = owners.refusal(PAPER.record, dataclasses.replace(PAPER, venue="Kraken"))
    assert refused == owners.Refusal(
        Reason.VENUE_MISMATCH,
        "it holds data of venue Simulated, and the platform says Kraken: apply it with venue Simulated, or as another "
        "platform, by another name, with servers of its own",
    )


@pytest.mark.parametrize(
    "record",
    [
        "",
        "mine",
        "{}",
        "[]",
        PAPER.record[:-1],
        PAPER.record.replace("desk", "a desk"),
        PAPER.record.replace('"5d8f"', "5"),
    ],
)
def test_a_record_that_is_not_understood_is_somebody_elses(record: str) -> None:
    refused = owners.refusal(record, PAPER)
    assert refused is not None
    assert refused.reason is Reason.SERVER_OWNED_BY_ANOTHER


def test_of_another_owner_only_words_that_are_not_ours_could_quote_a_secret() -> None:
    stranger = dataclasses.replace(PAPER, name="live", uid="77aa", venue="Kraken")
    assert owners.foreign(stranger.record, PAPER.record).split() == ["77aa", "live"]
    assert owners.foreign(f"{stranger.text} Kraken", PAPER.text).split() == ["live", "77aa"]
    assert owners.foreign(PAPER.record, PAPER.record) == ""
