"""The engine and the kinds that it reconciles, the workqueue and its lanes, settings, health and metrics."""
