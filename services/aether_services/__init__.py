"""The services of a desk: one room each, and what they share."""
