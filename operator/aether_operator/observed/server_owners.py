"""Which platform owns a server, by the record on the server. Values only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import pydantic

from aether_operator.api.platforms import Server, VenueName
from aether_operator.api.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


class Ownership(StrEnum):
    """What a server's record says about a platform; None for a server that did not answer."""

    OURS = "ours"
    UNCLAIMED = "unclaimed"
    OWNED_BY_ANOTHER = "owned by another"
    """Owned by another platform, or by one of the same name at another venue."""
    UNKNOWN = "unknown"
    """It holds data, and no record says of which venue: nothing is started on it, and running pods continue."""


def claimable(server: Server, ownerships: Mapping[Server, Ownership | None]) -> bool:
    """Whether a platform may record itself as the owner of an unclaimed server, by what its servers report now.

    None of its servers may be owned by another, since claims are not taken back. And all servers before it must be
    claimed already, in one order for all platforms: two that name the same servers cannot block each other.
    """
    if ownerships.get(server) is not Ownership.UNCLAIMED or Ownership.OWNED_BY_ANOTHER in ownerships.values():
        return False
    before = list(Server)[: list(Server).index(server)]
    return all(ownerships.get(one) is Ownership.OURS for one in before)


_Word = Annotated[str, pydantic.Field(max_length=253, pattern=r"^[A-Za-z0-9._-]+$")]


class _Record(pydantic.BaseModel):
    """The record as JSON, which people read too."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, strict=True)

    namespace: _Word
    namespaceUid: _Word  # noqa: N815 - as JSON has it
    name: _Word
    venue: _Word


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOwner:
    """A platform, as the servers that it owns record it.

    `uid` is the namespace's and not the platform's: a platform that is deleted and created again owns what it owned,
    and one of the same names in another cluster does not.
    """

    namespace: str
    uid: str
    name: str
    venue: str

    @property
    def text(self) -> str:
        """The platform without its venue, for people."""
        return f"{self.namespace}/{self.name} of namespace {self.uid}"

    @property
    def record(self) -> str:
        """The record: JSON in one line, without characters that a shell or protocol would interpret."""
        parts = {"namespace": self.namespace, "namespaceUid": self.uid, "name": self.name, "venue": self.venue}
        return json.dumps(parts, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class OwnershipProblem:
    """Why a server does not belong to a platform."""

    reason: Reason
    message: str


_OTHER_SERVER: Final = "name another server in the spec"
_NOT_UNDERSTOOD: Final = f"it belongs to somebody else: what stands there as its owner is no platform; {_OTHER_SERVER}"
_WORDS: Final = re.compile(r"[A-Za-z0-9._-]+")


def parse(record: str) -> ServerOwner | None:
    """The owner in a record; None if the record cannot be parsed."""
    try:
        found = _Record.model_validate_json(record)
    except ValueError:
        return None
    return ServerOwner(namespace=found.namespace, uid=found.namespaceUid, name=found.name, venue=found.venue)


def foreign_words(text: str, own: str) -> str:
    """The words of an owner's name or record that are neither in ours nor a venue: they might quote a Secret."""
    known = {*_WORDS.findall(own), *VenueName}
    return " ".join(word for word in _WORDS.findall(text) if word not in known)


def ownership_problem(record: str, platform: ServerOwner) -> OwnershipProblem | None:
    """Why a server with this record does not belong to the platform; None if it does."""
    found = parse(record)
    if found is None:
        return OwnershipProblem(Reason.SERVER_OWNED_BY_ANOTHER, _NOT_UNDERSTOOD)
    if found.text != platform.text:
        return OwnershipProblem(
            Reason.SERVER_OWNED_BY_ANOTHER, f"it belongs to {found.text}, venue {found.venue}; {_OTHER_SERVER}"
        )
    if found.venue != platform.venue:
        return OwnershipProblem(Reason.VENUE_MISMATCH, f"it holds {venue_mismatch(found.venue, platform.venue)}")
    return None


def venue_mismatch(recorded: str, wanted: str) -> str:
    """Says that a server holds another venue's data, and what to do."""
    return (
        f"data of venue {recorded}, and the platform says {wanted}: "
        f"apply it with venue {recorded}, or as another platform, by another name, with servers of its own"
    )
