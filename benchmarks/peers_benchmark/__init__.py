"""The parts of `benchmarks/peers.py`: what is trained, and by whom."""
