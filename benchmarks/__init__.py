"""Measures tpuest against the original, a hand-written loop and Keras: `python -m benchmarks.run`."""
