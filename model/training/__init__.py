"""The training loop, the loss and the learning-rate schedule."""
