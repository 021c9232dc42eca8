"""The encoders of the default space: text, image, audio and speech."""
