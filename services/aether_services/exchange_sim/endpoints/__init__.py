"""The endpoints of the venue: REST and WebSocket for clients, the admin API for tests."""
