"""Complete programs in TPUEstimator's old style: `python -m tpuest.examples.digits`, `... .text`."""
