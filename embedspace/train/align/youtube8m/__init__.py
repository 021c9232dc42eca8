"""Features of YouTube-8M: files of records, read without TensorFlow."""
