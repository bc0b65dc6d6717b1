"""The parts of the counting proxy: what a request is about, write log and faults, watches, older lists, upstream."""
