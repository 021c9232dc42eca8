"""Files that clients send to be edited."""
