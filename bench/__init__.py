"""Benchmarks: asv classes in ``bench_*.py``, comparisons with peers in ``compare.py``."""
