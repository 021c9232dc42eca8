"""embedspace inside other libraries: one small module each, imported by name."""
