"""What all services share: HTTP app and server, settings, process, clock. Knows no service and no venue."""
