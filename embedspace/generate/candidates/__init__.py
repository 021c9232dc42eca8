"""Several candidates for a sample: how they are drawn, and which is kept."""
