"""The operator's Prometheus metrics, named after those of controller-runtime where it has them."""

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
    "Workers that reconcile now; in the normal lane at most maxConcurrentReconciles",
    ["lane"],
)
WORKQUEUE_DEPTH: Final = Gauge("aether_operator_workqueue_depth", "Keys that wait for a worker", ["lane"])
WORKQUEUE_ADDS: Final = Counter(
    "aether_operator_workqueue_adds", "Keys queued, each once until a worker takes it", ["lane"]
)
WORKQUEUE_RETRIES: Final = Counter(
    "aether_operator_workqueue_retries", "Keys queued again after a failed reconcile", ["lane"]
)
WATCH_AGE: Final = Gauge(
    "aether_operator_watch_age_seconds", "Seconds since a resource last sent an event, a bookmark or a list", ["path"]
)
NAMESPACE_WATCHED: Final = Gauge(
    "aether_operator_namespace_watched",
    "1 while the leader watches a namespace; 0 before that, and while the API server denies access",
    ["namespace"],
)
WRITES: Final = Counter("aether_operator_writes", "Writes to the API server, by verb and kind", ["verb", "kind"])
REPAIRS: Final = Counter(
    "aether_operator_repairs", "Children applied again after somebody else had changed or deleted them", ["kind"]
)
LEADER: Final = Gauge("aether_operator_leader", "1 while this replica holds the Lease")
LOOP_LAG: Final = Gauge("aether_operator_loop_lag_seconds", "Delay of the event loop at the last measurement")
