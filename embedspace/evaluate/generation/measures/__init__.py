"""What samples of a generator are measured by: distances of distributions, near-copies, words, intervals."""
