"""The Lease, the queue, the visit itself, health and metrics."""
