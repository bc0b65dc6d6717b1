"""The ways to the venue: REST and WebSocket for its clients, faults on demand for whoever tests them."""
