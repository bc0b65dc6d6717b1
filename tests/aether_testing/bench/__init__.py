"""What benchmarks share: the runner, and the environments in which they measure."""
