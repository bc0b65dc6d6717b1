"""What operator and services do alike: log lines, texts of errors, sockets. Of others only the standard library."""
