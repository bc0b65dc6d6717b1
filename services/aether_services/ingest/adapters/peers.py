"""Queries the /status of the other replicas."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import pydantic

from aether_services.contracts.statuses import IngestStatus
from aether_services.domain.instruments import Symbol

if TYPE_CHECKING:
    from types import TracebackType

DEADLINE: Final = 1.0


class HttpPeers:
    """The other replicas over HTTP.

    Args:
        url: The URL of a replica, with `{replica}` in place of its number.
        own_number: The number of this replica, which is not queried.
    """

    def __init__(self, url: str, own_number: int) -> None:
        self._url, self._own_number = url, own_number
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def usable(self, replicas: int) -> dict[int, frozenset[Symbol]]:
        others = [one for one in range(replicas) if one != self._own_number]
        answers = await asyncio.gather(*(self._query(one) for one in others))
        return {one: answer for one, answer in zip(others, answers, strict=True) if answer is not None}

    async def _query(self, replica: int) -> frozenset[Symbol] | None:
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            async with self._session.get(f"{self._url.replace('{replica}', str(replica))}/status") as response:
                status = IngestStatus.model_validate_json(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, pydantic.ValidationError):
            return None  # a replica that does not answer counts as having no book
        return frozenset(Symbol(symbol) for symbol, book in status.books.items() if book.usable)
