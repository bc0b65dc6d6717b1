"""What all services share: HTTP app and server, settings, logs, clock. Knows no service and no venue."""
