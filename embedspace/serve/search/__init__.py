"""From the terms of requests to hits: the encoder's queue, the terms, the search itself."""
