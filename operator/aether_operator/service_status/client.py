"""Reads /status of the pods of our own services: all pods at once, each request with a deadline."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

import aiohttp

from aether_operator.api.reasons import Reason
from aether_operator.catalog import components, names
from aether_operator.observed.components import ComponentReport
from aether_operator.status import components as component_status
from aether_runtime import network_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aether_operator.catalog.components import Component
    from aether_operator.observed.components import Target

MAX_BYTES: Final = 1 << 20
"""Of a response: some hundreds of markets take a tenth of that."""
_OK: Final = 200


async def query(  # noqa: PLR0913 - by name
    targets: Sequence[Target],
    *,
    namespace: str,
    deadline: float,
    address_template: str = "",
    hidden: Collection[str] = (),
    addresses: Collection[str] = (),
) -> dict[str, ComponentReport]:
    """The report of each pod, by the pod's name.

    Args:
        targets: The pods.
        namespace: Of the pods.
        deadline: Seconds for each pod.
        address_template: A URL with `{namespace}` and `{pod}` in it, for an operator outside of the cluster; empty to
            use the pods' own addresses.
        hidden: Values of Secrets: a text that contains one is left out of the report.
        addresses: `host:port` of the servers. They are no secrets, even where a username is a part of a host name.
    """
    if not targets:
        return {}
    parse = functools.partial(component_status.read, secret_values=hidden, addresses=addresses)
    timeout = aiohttp.ClientTimeout(total=deadline)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        reports = await asyncio.gather(
            *(
                _query_pod(session, target, _base_url(target, namespace, address_template), deadline, parse)
                for target in targets
            )
        )
    return {target.pod: report for target, report in zip(targets, reports, strict=True)}


def _base_url(target: Target, namespace: str, address_template: str) -> str:
    if address_template:
        return address_template.format(namespace=namespace, pod=target.pod)
    return f"http://{names.address(target.address, components.PORT)}"


async def _query_pod(
    session: aiohttp.ClientSession,
    target: Target,
    base_url: str,
    deadline: float,
    parse: Callable[[str, Component], ComponentReport],
) -> ComponentReport:
    try:
        async with session.get(f"{base_url}/status", allow_redirects=False) as response:
            if response.status != _OK:
                return ComponentReport(reason=Reason.FAILED, message=f"its /status answers {response.status}")
            body = await response.content.read(MAX_BYTES)
            while len(body) < MAX_BYTES and (more := await response.content.read(MAX_BYTES - len(body))):
                body += more
    except TimeoutError:
        return ComponentReport(reason=Reason.UNREACHABLE, message=f"no response within {deadline:g} s")
    except aiohttp.ClientError as error:
        return ComponentReport(
            reason=Reason.UNREACHABLE, message=network_errors.describe(error) or network_errors.CLOSED
        )
    return parse(body.decode(errors="replace"), target.component)
