"""The messages that services send to each other and to other consumers: JSON, each with the version of its schema.

Decimals are strings, times RFC 3339 with nanoseconds. Within a version fields are only added, never removed or changed.
"""
