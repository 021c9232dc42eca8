"""Videos: cut into windows, and what encodes one."""
