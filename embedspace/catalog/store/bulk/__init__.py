"""Writing many items in one transaction."""
