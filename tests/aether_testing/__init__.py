"""The harness that tests and benchmarks share. Only `fixtures` knows pytest.

Values: `builders`, `widgets`, `manifests`, `observations`, `evaluations`, `states`, `structural`, `policies`,
`kstatus`, `clocks`.
Clusters: `clusters`, `namespaces`, `counting_proxy`, `audits`, `charts`, `fixtures`; the machine: `machines`,
`address_families`.
The operator as a process: `operators`, `widget_operator`, `planes`, `fake_services`, `previous_release`,
`plain_kopf`, `operator_benches`.
Real servers: `postgres`, `timescale`, `toy_schemas`, `trixie`, `brokers`, `shared_servers`, `restarts`, `tls`,
`checks`, `free_ports`.
Market data: `venues`, `fake_venue`, `ingests`, `pipelines`, `recordings`.
Commands and pages: `command_line`, `progress_recorder`, `e2e_platform`, `pages`, `generator`, `words`.
Benchmarks: `benchmarks`, `latencies`.
"""
