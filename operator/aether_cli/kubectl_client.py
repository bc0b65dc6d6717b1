"""Asks a cluster through kubectl's JSON: one answer, or a watch until something holds."""

from __future__ import annotations

import codecs
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_cli import problems, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

Object = dict[str, Any]
Objects = dict[str, Object]

RELIST_AFTER: Final = 2.0
"""Seconds without an event after which a watch is not trusted and everything is listed again."""


class NotFound(problems.ProgramFailed):
    """What was asked for does not exist."""


class Forbidden(problems.ProgramFailed):
    """Whoever asks has no right to that."""


class Unreachable(problems.ProgramFailed):
    """No API server answers at that address."""

    exit_code = problems.NotRunning.exit_code


_ERRORS: Final = {
    "(NotFound)": NotFound,
    "(Forbidden)": Forbidden,
    # These two are what kubectl says of every connection that fails.
    "Unable to connect to the server": Unreachable,
    "The connection to the server": Unreachable,
}
"""What kubectl's last line has in it → which error that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """A cluster, as kubectl reaches it: by a kubeconfig file, or by a context of the person's own."""

    program: str | Path
    kubeconfig: Path | None = None
    context: str = ""
    cache: Path | None = None

    def command(self, *words: str | Path) -> list[str]:
        """The whole command line."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        which = [f"--context={self.context}"] if self.context else []
        cache_dir = [f"--cache-dir={self.cache}"] if self.cache else []
        return [str(self.program), *where, *which, *cache_dir, *map(str, words)]

    def text(self, *words: str | Path, stdin: str | None = None, deadline: float = 60) -> str:
        """What kubectl prints.

        Raises:
            NotThere: What was asked for does not exist.
            Forbidden: Whoever asks has no right to that.
            NotReached: No API server answers.
            ProgramFailed: It refused, or took longer than `deadline` seconds.
        """
        try:
            return processes.run(self.command(*words), stdin=stdin, deadline=deadline)
        except problems.ProgramFailed as failed:
            for said, kind in _ERRORS.items():
                if said in failed.cause:
                    raise kind(failed.cause, remedy=failed.remedy) from failed
            raise

    def get(self, *words: str | Path, deadline: float = 60) -> Object:
        """One object or one list, as JSON."""
        return self.json("get", *words, deadline=deadline)

    def json(self, *words: str | Path, deadline: float = 60) -> Object:
        """What kubectl answers to any of its commands that know `-o json`."""
        text = self.text(*words, "-o", "json", deadline=deadline)
        try:
            response: Object = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"kubectl {words[0]} did not answer in JSON: {text[:80]!r}") from other
        return response

    def raw(self, path: str, *, deadline: float) -> Object:
        """What a path of the API server answers, also one that it passes on to a pod.

        Raises:
            NotThere: It knows of no such thing.
            ProgramFailed: As `text`.
        """
        text = self.text("get", "--raw", path, f"--request-timeout={deadline:g}s", deadline=deadline + 5)
        try:
            response: Object = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"{path} did not answer in JSON: {text[:80]!r}") from other
        return response

    def apply(self, *things: Object) -> None:
        """Make it so: server-side apply under this program's own field manager."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(things)}
        self.text(
            "apply", "--server-side", "--force-conflicts", "--field-manager=aether-cli", "-f", "-",
            stdin=json.dumps(bundle),
        )  # fmt: skip

    def until(self, holds: Callable[[Objects], bool], *what: str, deadline: float, expected: str) -> Objects:
        """Watch until something holds.

        Args:
            holds: Judges everything seen so far, by `namespace/name`.
            what: What to watch, in the words of `kubectl get`.
            deadline: Seconds to wait.
            expected: What is waited for, in words, for the error.

        Raises:
            NotReady: The deadline passed; the error says what was seen last.
        """
        ends = time.monotonic() + deadline
        objects: Objects = {}
        error = ""
        while (left := ends - time.monotonic()) > 0:
            try:
                objects = _by_name(self.get(*what, deadline=max(1.0, left)))
                error = ""
            except problems.ProgramFailed as failed:  # an API server that is just starting, a name not there yet
                error = failed.cause
            if error:  # a part of what there is must not be judged as if it were all
                select.select([], [], [], min(0.2, max(0.0, ends - time.monotonic())))
                continue
            if holds(objects):
                return objects
            for event in self.watch(*what, until=ends, idle_timeout=RELIST_AFTER):
                _apply_event(objects, event)
                if holds(objects):
                    return objects
        raise problems.NotReady(f"{expected}: not within {deadline:g} s", remedy=summary(objects.values(), error))

    def watch(self, *what: str, until: float, idle_timeout: float) -> Iterator[Object]:
        """Events `{"type", "object"}` as they come.

        It ends after `quiet` seconds of silence, at `until` (monotonic), or with the watch itself.
        """
        wrapper = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        with subprocess.Popen(
            # It ends with us, however we end: a quiet watch would never notice.
            [*wrapper, *self.command("get", *what, "--watch", "--output-watch-events", "-o", "json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            if child.stdout is None:  # narrows the type; PIPE was asked for
                return
            try:
                text, decoder, characters = "", json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace")
                while True:
                    timeout = min(idle_timeout, until - time.monotonic())
                    if timeout <= 0 or not select.select([child.stdout], [], [], timeout)[0]:
                        return
                    data = os.read(child.stdout.fileno(), 1 << 16)
                    if not data:
                        # Ended by itself: a refusal, or the server's own limit. The caller asks again, not at once.
                        select.select([], [], [], min(0.2, max(0.0, until - time.monotonic())))
                        return
                    text += characters.decode(data)
                    while text := text.lstrip():
                        try:
                            event, end = decoder.raw_decode(text)
                        except json.JSONDecodeError:
                            break  # the rest of this event is still to come
                        text = text[end:]
                        yield event
            finally:
                child.kill()


def _by_name(response: Object) -> Objects:
    things = response.get("items", [response])
    return {_name(thing): thing for thing in things}


def _name(thing: Object) -> str:
    meta = thing["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def _apply_event(objects: Objects, event: Object) -> None:
    if event["type"] == "DELETED":
        objects.pop(_name(event["object"]), None)
    elif event["type"] in {"ADDED", "MODIFIED"}:
        objects[_name(event["object"])] = event["object"]


def summary(things: Iterable[Object], error: str = "") -> str:
    """What was seen, for a person: each object and what its status says, one line each."""
    lines = [f"  {thing.get('kind', '?')} {_name(thing)}: {_status(thing.get('status', {}))}" for thing in things]
    return "\n".join(["Seen last:", *(lines or ["  nothing"]), *([f"  {error}"] if error else [])])


def _status(status: Object) -> str:
    conditions: Sequence[Object] = status.get("conditions", [])
    said = [
        f"{c.get('type')}={c.get('status')}"
        + (f" ({c.get('reason')}: {c.get('message', '')})" if c.get("reason") else "")
        for c in conditions
    ]
    states = [
        f"{c['name']}: {json.dumps(c.get('state', {}))}"
        for c in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    ]
    short = {key: value for key, value in status.items() if isinstance(value, str | int | bool)}
    return "; ".join([json.dumps(short), *said, *states])


def condition(thing: Object, kind: str) -> str:
    """The status of one condition: True, False or Unknown (also when it is not there)."""
    for one in (thing.get("status") or {}).get("conditions") or []:  # a new kind has `null` there
        if one.get("type") == kind:
            return str(one.get("status"))
    return "Unknown"
