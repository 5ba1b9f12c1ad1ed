"""The parts of `benchmarks/fashion_mnist.py`: images, networks, methods, report."""
