"""A simulated venue with Kraken's API: one matching engine behind REST and WebSocket v2, with faults on demand."""
