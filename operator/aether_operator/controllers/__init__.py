"""The workqueue and its workers, the reconcile of a TradingPlatform, configuration, health, metrics and logs."""
