"""What the default space learns, one file per modality: pictures and text, sounds (and their router), speech."""
