"""Asks rooms for their /status, all pods at once, each with a deadline."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import aiohttp

from aether_operator.api.reasons import Reason
from aether_operator.catalog import components, names
from aether_operator.observed.components import ComponentReport, read

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aether_operator.observed.components import Target

LARGEST: Final = 1 << 20
"""Bytes of an answer: some hundreds of markets are a tenth of that."""
_OK: Final = 200


async def ask(
    targets: Sequence[Target], *, namespace: str, deadline: float, through: str = "", hidden: Collection[str] = ()
) -> dict[str, ComponentReport]:
    """What each pod says, by its name.

    Args:
        targets: The pods.
        namespace: Where they are.
        deadline: Seconds that each has.
        through: Where they are found from outside of the cluster, with `{namespace}` and `{pod}` in it; empty for their
            own addresses.
        hidden: What no text of a report may quote.
    """
    if not targets:
        return {}
    timeout = aiohttp.ClientTimeout(total=deadline)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        reports = await asyncio.gather(
            *(_one(session, one, _base(one, namespace, through), deadline, hidden) for one in targets)
        )
    return {one.pod: report for one, report in zip(targets, reports, strict=True)}


def _base(target: Target, namespace: str, through: str) -> str:
    if through:
        return through.format(namespace=namespace, pod=target.pod)
    return f"http://{names.address(target.address, components.PORT)}"


async def _one(
    session: aiohttp.ClientSession, target: Target, base: str, deadline: float, hidden: Collection[str]
) -> ComponentReport:
    try:
        async with session.get(f"{base}/status", allow_redirects=False) as answer:
            if answer.status != _OK:
                return ComponentReport(reason=Reason.FAILED, message=f"its /status answers {answer.status}")
            data = await answer.content.read(LARGEST)
            while len(data) < LARGEST and (more := await answer.content.read(LARGEST - len(data))):
                data += more
    except TimeoutError:
        return ComponentReport(reason=Reason.UNREACHABLE, message=f"no answer within {deadline:g} s")
    except aiohttp.ClientConnectorError as fault:
        return ComponentReport(
            reason=Reason.UNREACHABLE, message=os.strerror(fault.errno) if fault.errno else "no way there"
        )
    except aiohttp.ClientError as fault:
        return ComponentReport(reason=Reason.UNREACHABLE, message=f"the connection ended: {type(fault).__name__}")
    return read(data.decode(errors="replace"), target.component, hidden)
