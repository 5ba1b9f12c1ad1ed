"""The parts of `benchmarks/uci.py`: tables, lanes, methods, rule, report."""
