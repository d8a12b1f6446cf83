"""Timings and memory, never part of the tests: `python -m benchmarks --help`."""
