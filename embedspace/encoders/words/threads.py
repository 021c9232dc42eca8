"""How many threads numpy's matrix products use, set where the work runs: small ones are slower in several threads.

Threads that wait for their share of a few rows keep cores busy: on a machine with other work to do, a text took 110 to
190 ms of processor time with two threads, and 10 with one.
"""

from __future__ import annotations

import contextlib
import functools

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return the linear-algebra libraries of this process; numpy has loaded its own."""
    return ThreadpoolController().select(user_api="blas")


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Within this context matrix products of numpy run in the calling thread alone; afterwards as before."""
    limited: contextlib.AbstractContextManager[object] = _libraries().limit(limits=1)
    return limited
