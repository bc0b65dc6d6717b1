"""What was seen, judged: conditions and status. Values only; it does not know what was desired."""

from __future__ import annotations

from aether_operator.status.evaluation import Seen, State, judge, judge_failed, judge_terminating

__all__ = ["Seen", "State", "judge", "judge_failed", "judge_terminating"]
