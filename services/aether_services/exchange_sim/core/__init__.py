"""The pure heart of the venue: markets, matching, books as clients have them, the order flow, forms on the wire."""
