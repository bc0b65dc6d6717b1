"""What every room is made with: app, settings, logs, clock, serving. Knows no room and no venue."""
