"""Values of the trade: instruments, exact amounts, times, books, trades, candles. No input or output, no clock."""
