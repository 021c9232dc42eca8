"""Train the networks of timing on rendered clips: python -m training.timing."""
