"""Training: losses, pair batches, the loop, checkpoints, calibration, and the generators."""
