"""Gives the process its simulated cores before TensorFlow starts; tests switch them on."""

import tpuest

tpuest.simulate_tpu(8)
tpuest.simulate_tpu(0)
