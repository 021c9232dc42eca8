"""The command `embedspace`: a server that has the models loaded answers it, if there is one; else it runs here."""

from __future__ import annotations

import os
import sys

from embedspace.warm import OUT, Reply, hand_over

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main() -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:]
    try:
        reply = hand_over(arguments)
    except KeyboardInterrupt:  # the server sees that nobody waits any more
        sys.stderr.write("embedspace: interrupted\n")
        return _INTERRUPTED
    if reply is not None:
        try:
            return _replay(reply)
        except OSError:  # it cannot be written: the command itself knows what to say of that
            pass
    from embedspace.cli import main as run

    return run(arguments)


def _replay(reply: Reply) -> int:
    """Write an answer where it belongs, in its order; returns its exit code."""
    try:
        for kind, content in reply.parts:
            stream = sys.stdout if kind == OUT else sys.stderr
            stream.buffer.write(content)
            stream.flush()
    except BrokenPipeError:  # the reader went away, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return reply.code


if __name__ == "__main__":
    sys.exit(main())
