"""Read and write image, audio, text and video files; every failure is one `MediaError` with path, reason and way out.

Import from the submodules (`embedspace.media.image`, `.audio`, `.text`, `.video`, `.write`): each brings only the
library that it needs.
"""
