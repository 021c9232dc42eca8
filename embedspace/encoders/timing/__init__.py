"""When something moves and when something is heard: vectors of timing, compared with one another alone."""
