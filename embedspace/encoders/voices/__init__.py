"""Who speaks: the encoder of voices, and how a recording is divided among its speakers."""
