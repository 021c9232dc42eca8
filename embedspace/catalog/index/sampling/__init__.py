"""The fixed sample of items that every query is measured against: which they are, and where they lie together."""
