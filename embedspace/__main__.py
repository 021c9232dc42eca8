"""`python -m embedspace` is `embedspace`."""

from __future__ import annotations

import sys

from embedspace.cli import main

if __name__ == "__main__":
    sys.exit(main())
