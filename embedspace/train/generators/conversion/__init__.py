"""Training of the vocoder, and of what gives speech another voice."""
