from __future__ import annotations

import threading
import time

from embedspace.stages import stage, timed_stages


def test_inner_stages_count_once_and_other_threads_not_at_all() -> None:
    seconds: dict[str, float] = {}
    with stage("nobody asked"), timed_stages(seconds):
        started = time.perf_counter()
        with stage("encode"):
            for _ in range(2):
                with stage("encode image"):
                    time.sleep(0.02)
            time.sleep(0.01)
        took = time.perf_counter() - started
        other = threading.Thread(target=lambda: stage("elsewhere").__enter__())
        other.start()
        other.join()
    assert seconds.keys() == {"encode", "encode image"}
    assert seconds["encode image"] >= 0.04 and 0.01 <= seconds["encode"] <= took - 0.04
    assert abs(sum(seconds.values()) - took) < 0.005
