"""Old names and old meanings on a new TensorFlow."""
