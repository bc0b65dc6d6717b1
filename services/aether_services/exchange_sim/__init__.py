"""A venue that speaks as Kraken does: one matching engine behind its REST and WebSocket v2, with faults on demand."""
