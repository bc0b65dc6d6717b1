"""Book messages on one core: decode, apply, verify, normalise, encode; beside clients that others wrote, in turns.

The fastest round of each counts: what else the machine does can only slow one down.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_cli import processes
from aether_testing.bench import benchmarks
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent / "peers"
TOP: Final = Path(__file__).parents[2]
PATHS: Final = {**os.environ, "PYTHONPATH": f"{TOP}/services:{TOP}/tests:{TOP}/operator"}
TURNS: Final = 5
ROUNDS: Final = 20
LENGTH: Final = 510
"""Messages that are generated: as many as are recorded."""
CONTENDERS: Final = {
    "ours": (Path(sys.executable), "ours_book.py", 20),
    "cryptofeed": (TOP / ".venv-peers/bin/python", "cryptofeed_book.py", 10),
    "python-kraken-sdk": (TOP / ".venv-peers/bin/python", "kraken_sdk_book.py", 5),
}


def figures() -> Iterator[benchmarks.Figure]:
    source = recordings.sources()[-1]  # the recorded feed where it is
    print(f"{source} messages", file=sys.stderr)
    best = dict.fromkeys(CONTENDERS, 0.0)
    core = str(max(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.jsonl"
        frames.write_bytes(b"\n".join(recordings.book_frames(source, length=LENGTH)))
        for _ in range(TURNS):
            for name, (python, script, repeats) in CONTENDERS.items():
                command = ["taskset", "--cpu-list", core, python, HERE / script, frames, ROUNDS, repeats]
                output = processes.run([str(word) for word in command], deadline=300, env=PATHS)
                best[name] = max(best[name], *json.loads(output.splitlines()[-1]))
    peer = max((name for name in best if name != "ours"), key=lambda name: best[name])
    for name in (peer, *(one for one in best if one not in {"ours", peer})):
        yield benchmarks.Figure(
            name="ingest-book",
            value=best["ours"],
            unit="updates/s",
            peer=name,
            peer_value=best[name],
            less_is_better=False,
            data=source,
        )
