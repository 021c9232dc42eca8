"""What is derived from the truth to search it: packed vectors, exact and approximate search."""
