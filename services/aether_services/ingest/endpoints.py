"""The endpoint of ingest: a market's current book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import fastapi

from aether_services.contracts.books import BookView
from aether_services.domain.instruments import Symbol

if TYPE_CHECKING:
    from aether_services.ingest.service import Ingest


def router(ingest: Ingest) -> fastapi.APIRouter:
    routes = fastapi.APIRouter(tags=["books"])

    unserved: dict[int | str, dict[str, Any]] = {404: {"description": "This replica does not serve that market"}}

    @routes.get("/books/{base}/{quote}", response_model=BookView, responses=unserved)
    async def book(base: str, quote: str, depth: Annotated[int, fastapi.Query(ge=1, le=1000)] = 10) -> BookView:
        """A market's book, best levels first; without levels while it is not usable."""
        view = ingest.view(Symbol(f"{base}/{quote}"), depth)
        if view is None:
            raise fastapi.HTTPException(404, f"this replica does not serve {base}/{quote}")
        return view

    return routes
