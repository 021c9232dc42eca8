"""From query vectors to ranked hits: filters, probabilities, one ranking over all modalities."""
