"""What was seen, judged: conditions and status. Values only; it does not know what was desired."""
