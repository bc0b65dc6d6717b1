"""Parts of the engine that a real API server shows only by chance: two owners that desire one name at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from aether_operator import planning
from aether_operator.controllers.engine import Engine
from aether_operator.controllers.index import Index
from aether_operator.controllers.reconciler import Context
from aether_operator.controllers.workqueue import Key
from aether_operator.kube import api_client
from aether_operator.observed.kinds import Ref
from aether_testing.values.widgets import WidgetReconciler

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Kind, Manifest

REF = Ref("ConfigMap", "shared")
ONE, OTHER = Key("Widget", "desk", "one"), Key("Widget", "desk", "other")


@dataclass
class Api:
    """Stores what is applied; both requests take a moment, as over a network."""

    stored: dict[str, Manifest] = field(default_factory=dict)

    async def get(self, _kind: Kind, _namespace: str, name: str) -> Manifest | None:
        await asyncio.sleep(0)
        return self.stored.get(name)

    async def apply(self, _kind: Kind, manifest: Manifest, _namespace: str) -> Manifest:
        await asyncio.sleep(0)
        self.stored[manifest["metadata"]["name"]] = manifest
        return manifest


def an_engine(api: Api, index: Index) -> Engine[Any, Any]:
    nothing = cast("Any", None)
    context = Context(
        api=cast("Any", api), config=nothing, fences=nothing, threads=nothing, new_password=str, now=nothing
    )
    return Engine(reconciler=WidgetReconciler(context), events=nothing, index=index)


def a_creation(owner: Key) -> planning.Apply:
    return planning.Apply(
        manifest={"kind": "ConfigMap", "metadata": {"name": REF.name}, "data": {"of": owner.name}}, live=None
    )


async def test_of_two_owners_that_create_a_child_one_waits() -> None:
    api, index = Api(), Index()
    engine = an_engine(api, index)
    index.add(ONE, [REF])
    index.add(OTHER, [REF])
    results = await asyncio.gather(
        *(engine._apply(key, REF, a_creation(key)) for key in (ONE, OTHER)),  # noqa: SLF001 - no API server shows it
        return_exceptions=True,
    )
    assert results[0] == api.stored[REF.name] == a_creation(ONE).manifest
    assert isinstance(results[1], api_client.Unavailable)


async def test_owner_that_comes_during_a_creation_waits_for_it() -> None:
    api, index = Api(), Index()
    engine = an_engine(api, index)
    index.add(ONE, [REF])
    first = asyncio.create_task(engine._apply(ONE, REF, a_creation(ONE)))  # noqa: SLF001
    await asyncio.sleep(0)  # its request is under way
    index.add(OTHER, [REF])
    assert api.stored == {}
    with pytest.raises(api_client.Unavailable):
        await engine._apply(OTHER, REF, a_creation(OTHER))  # noqa: SLF001
    assert await first == api.stored[REF.name]


@pytest.mark.parametrize("others", [(), (OTHER,)])
async def test_child_that_exists_is_applied_whoever_names_it(others: tuple[Key, ...]) -> None:
    api, index = Api(), Index()
    for key in (ONE, *others):
        index.add(key, [REF])
    again = planning.Apply(manifest=a_creation(ONE).manifest, live={"metadata": {}})
    assert await an_engine(api, index)._apply(ONE, REF, again) == api.stored[REF.name]  # noqa: SLF001
