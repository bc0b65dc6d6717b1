"""Trading values: instruments, exact amounts, times, books, trades, candles. No I/O, no clock."""
