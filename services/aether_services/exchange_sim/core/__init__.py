"""The venue without I/O: markets, matching engine, clients' views of books, order flow, message formats."""
