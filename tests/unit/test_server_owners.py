"""The owner of a server, by the record on it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Final

import pytest

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed import server_owners
from aether_operator.observed.server_owners import Ownership, ServerOwner

PAPER = ServerOwner(namespace="desk", uid="5d8f", name="paper", venue="Simulated")


def test_a_record_names_the_platform_that_wrote_it() -> None:
    assert server_owners.parse(PAPER.record) == PAPER
    assert server_owners.ownership_problem(PAPER.record, PAPER) is None
    assert json.loads(PAPER.record) == {
        "namespace": "desk", "namespaceUid": "5d8f", "name": "paper", "venue": "Simulated",
    }  # fmt: skip


@pytest.mark.parametrize("other", [{"namespace": "risk"}, {"uid": "77aa"}, {"name": "live"}])
def test_another_platform_is_named_with_its_venue(other: dict[str, str]) -> None:
    other_owner = dataclasses.replace(PAPER, **other)
    problem = server_owners.ownership_problem(other_owner.record, PAPER)
    assert problem is not None
    assert problem.reason is Reason.SERVER_OWNED_BY_ANOTHER
    assert problem.message == f"it belongs to {other_owner.text}, venue Simulated; name another server in the spec"


def test_same_platform_at_another_venue_is_rejected_with_advice() -> None:
    problem = server_owners.ownership_problem(PAPER.record, dataclasses.replace(PAPER, venue="Kraken"))
    assert problem == server_owners.OwnershipProblem(
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
def test_unreadable_record_belongs_to_another(record: str) -> None:
    problem = server_owners.ownership_problem(record, PAPER)
    assert problem is not None
    assert problem.reason is Reason.SERVER_OWNED_BY_ANOTHER


def test_only_foreign_words_of_another_owner_may_quote_a_secret() -> None:
    other_owner = dataclasses.replace(PAPER, name="live", uid="77aa", venue="Kraken")
    assert server_owners.foreign_words(other_owner.record, PAPER.record).split() == ["77aa", "live"]
    assert server_owners.foreign_words(f"{other_owner.text} Kraken", PAPER.text).split() == ["live", "77aa"]
    assert server_owners.foreign_words(PAPER.record, PAPER.record) == ""


OWNERSHIPS: Final = (None, *Ownership)


def test_server_is_claimed_only_after_all_before_it() -> None:
    ours, free = Ownership.OURS, Ownership.UNCLAIMED
    claimed = []
    for combination in itertools.product(OWNERSHIPS, repeat=len(Server)):
        ownerships = dict(zip(Server, combination, strict=True))
        claimed += [combination for server in Server if server_owners.claimable(server, ownerships)]
        assert not (Ownership.OWNED_BY_ANOTHER in combination and combination in claimed)
    rest = [one for one in OWNERSHIPS if one is not Ownership.OWNED_BY_ANOTHER]
    assert set(claimed) == {
        (*[ours] * place, free, *after)
        for place in range(len(Server))
        for after in itertools.product(rest, repeat=len(Server) - place - 1)
    }


def test_two_platforms_never_deadlock_over_shared_servers() -> None:
    """Platforms check shared servers in any order, and any of them may not answer; each has its own database."""
    shared = (Server.KAFKA, Server.NATS, Server.REDIS)
    checks = [
        (platform, responding)
        for platform in ("paper", "live")
        for count in range(len(shared) + 1)
        for responding in itertools.combinations(shared, count)
    ]
    for sequence in itertools.product(checks, repeat=3):
        held: dict[Server, str] = {}
        for platform, responding in sequence:
            ownerships: dict[Server, Ownership | None] = {Server.POSTGRES: Ownership.OURS}
            for server in responding:
                ownership_by_holder = {platform: Ownership.OURS, None: Ownership.UNCLAIMED}
                ownerships[server] = ownership_by_holder.get(held.get(server), Ownership.OWNED_BY_ANOTHER)
            for server in shared:
                if server_owners.claimable(server, ownerships):
                    held[server], ownerships[server] = platform, Ownership.OURS
        assert len(set(held.values())) <= 1, sequence
