"""Generators on latents: an autoencoder, a network on its latents, and the training items that condition it."""
