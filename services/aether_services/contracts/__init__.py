"""What crosses a wire between rooms, and to whoever listens: JSON, each message with the version of its form.

Decimals are strings, times RFC 3339 with nanoseconds. A form gains fields within a version, and loses or changes none.
"""
