"""Values: objects, observed states and statuses as tests build and compare them. Starts and connects to nothing."""
