"""The observed state, as values: packages with I/O fill them, planning and status read them."""
