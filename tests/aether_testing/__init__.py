"""What tests are made with: clusters, builders, a look at the machine, benchmarks. Knows pytest only in `fixtures`."""
