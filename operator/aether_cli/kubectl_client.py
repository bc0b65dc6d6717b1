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

Thing = dict[str, Any]
Seen = dict[str, Thing]

QUIET: Final = 2.0
"""Seconds without an event after which a watch is not trusted and everything is listed again."""


class NotThere(problems.ProgramFailed):
    """What was asked for does not exist."""


class Forbidden(problems.ProgramFailed):
    """Whoever asks has no right to that."""


class NotReached(problems.ProgramFailed):
    """No API server answers at that address."""

    exit_code = problems.NotRunning.exit_code


_ERRORS: Final = {
    "(NotFound)": NotThere,
    "(Forbidden)": Forbidden,
    # These two are what kubectl says of every connection that fails.
    "Unable to connect to the server": NotReached,
    "The connection to the server": NotReached,
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
        kept = [f"--cache-dir={self.cache}"] if self.cache else []
        return [str(self.program), *where, *which, *kept, *map(str, words)]

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
        except problems.ProgramFailed as refused:
            for said, kind in _ERRORS.items():
                if said in refused.cause:
                    raise kind(refused.cause, remedy=refused.remedy) from refused
            raise

    def get(self, *words: str | Path, deadline: float = 60) -> Thing:
        """One object or one list, as JSON."""
        return self.json("get", *words, deadline=deadline)

    def json(self, *words: str | Path, deadline: float = 60) -> Thing:
        """What kubectl answers to any of its commands that know `-o json`."""
        text = self.text(*words, "-o", "json", deadline=deadline)
        try:
            answer: Thing = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"kubectl {words[0]} did not answer in JSON: {text[:80]!r}") from other
        return answer

    def raw(self, path: str, *, deadline: float) -> Thing:
        """What a path of the API server answers, also one that it passes on to a pod.

        Raises:
            NotThere: It knows of no such thing.
            ProgramFailed: As `text`.
        """
        text = self.text("get", "--raw", path, f"--request-timeout={deadline:g}s", deadline=deadline + 5)
        try:
            answer: Thing = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"{path} did not answer in JSON: {text[:80]!r}") from other
        return answer

    def apply(self, *things: Thing) -> None:
        """Make it so: server-side apply under this program's own field manager."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(things)}
        self.text(
            "apply", "--server-side", "--force-conflicts", "--field-manager=aether-cli", "-f", "-",
            stdin=json.dumps(bundle),
        )  # fmt: skip

    def until(self, holds: Callable[[Seen], bool], *what: str, deadline: float, wish: str) -> Seen:
        """Watch until something holds.

        Args:
            holds: Judges everything seen so far, by `namespace/name`.
            what: What to watch, in the words of `kubectl get`.
            deadline: Seconds to wait.
            wish: What is waited for, in words, for the error.

        Raises:
            NotReady: The deadline passed; the error says what was seen last.
        """
        ends = time.monotonic() + deadline
        seen: Seen = {}
        trouble = ""
        while (left := ends - time.monotonic()) > 0:
            try:
                seen = _by_name(self.get(*what, deadline=max(1.0, left)))
                trouble = ""
            except problems.ProgramFailed as refused:  # an API server that is just starting, a name not there yet
                trouble = refused.cause
            if trouble:  # a part of what there is must not be judged as if it were all
                select.select([], [], [], min(0.2, max(0.0, ends - time.monotonic())))
                continue
            if holds(seen):
                return seen
            for event in self.watch(*what, until=ends, quiet=QUIET):
                _take(seen, event)
                if holds(seen):
                    return seen
        raise problems.NotReady(f"{wish}: not within {deadline:g} s", remedy=dump(seen.values(), trouble))

    def watch(self, *what: str, until: float, quiet: float) -> Iterator[Thing]:
        """Events `{"type", "object"}` as they come.

        It ends after `quiet` seconds of silence, at `until` (monotonic), or with the watch itself.
        """
        apart = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        with subprocess.Popen(
            # It ends with us, however we end: a quiet watch would never notice.
            [*apart, *self.command("get", *what, "--watch", "--output-watch-events", "-o", "json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            if child.stdout is None:  # narrows the type; PIPE was asked for
                return
            try:
                text, decoder, characters = "", json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace")
                while True:
                    patience = min(quiet, until - time.monotonic())
                    if patience <= 0 or not select.select([child.stdout], [], [], patience)[0]:
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


def _by_name(answer: Thing) -> Seen:
    things = answer.get("items", [answer])
    return {_name(thing): thing for thing in things}


def _name(thing: Thing) -> str:
    meta = thing["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def _take(seen: Seen, event: Thing) -> None:
    if event["type"] == "DELETED":
        seen.pop(_name(event["object"]), None)
    elif event["type"] in {"ADDED", "MODIFIED"}:
        seen[_name(event["object"])] = event["object"]


def dump(things: Iterable[Thing], trouble: str = "") -> str:
    """What was seen, for a person: each object and what its status says, one line each."""
    lines = [f"  {thing.get('kind', '?')} {_name(thing)}: {_status(thing.get('status', {}))}" for thing in things]
    return "\n".join(["Seen last:", *(lines or ["  nothing"]), *([f"  {trouble}"] if trouble else [])])


def _status(status: Thing) -> str:
    conditions: Sequence[Thing] = status.get("conditions", [])
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


def condition(thing: Thing, kind: str) -> str:
    """The status of one condition: True, False or Unknown (also when it is not there)."""
    for one in (thing.get("status") or {}).get("conditions") or []:  # a new kind has `null` there
        if one.get("type") == kind:
            return str(one.get("status"))
    return "Unknown"
