"""What the operator says of itself to Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECONCILES: Final = Counter(
    "aether_operator_reconcile", "Reconciles, by controller and result", ["controller", "result"]
)
RECONCILE_TIME: Final = Histogram(
    "aether_operator_reconcile_time_seconds",
    "Duration of a reconcile",
    ["controller"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
ACTIVE_WORKERS: Final = Gauge(
    "aether_operator_active_workers",
    "Workers that reconcile now; at most maxConcurrentReconciles and one for urgent keys",
)
WORKQUEUE_DEPTH: Final = Gauge("aether_operator_workqueue_depth", "Keys that wait for a worker")
WATCH_AGE: Final = Gauge(
    "aether_operator_watch_age_seconds", "Since the last event, bookmark or good list of a resource", ["path"]
)
NAMESPACE_WATCHED: Final = Gauge(
    "aether_operator_namespace_watched",
    "1 while the leader watches a namespace; 0 before that, and while the API server refuses",
    ["namespace"],
)
WRITES: Final = Counter("aether_operator_writes", "Writes to the API server, by verb and kind", ["verb", "kind"])
REPAIRS: Final = Counter("aether_operator_repairs", "Children that somebody else had changed or removed", ["kind"])
LEADER: Final = Gauge("aether_operator_leader", "1 while this replica holds the Lease")
LOOP_LAG: Final = Gauge("aether_operator_loop_lag_seconds", "How late the event loop was when it was last asked")
