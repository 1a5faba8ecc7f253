"""How the system scales: curves of what grows, and what bends them. `python -m benchmarks.bench_scaling`."""
