"""Several processes train what one would have trained alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from embedspace.encoders.trained import load_projection
from embedspace.train.align import align
from embedspace.train.distributed import World, join_world
from tests.support.tiny_towers import write_recipe

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import sys
import tests.support.tiny_towers
from embedspace.cli import main
sys.exit(main(["train", "align", sys.argv[1], "--out", sys.argv[2]]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_two_processes_train_what_one_would(tmp_path: Path, loss: str) -> None:
    changes = {"steps = 60": f'steps = 6\nloss = "{loss}"', "evaluate_every = 30": "evaluate_every = 6"}
    changes |= {"batch_size = 24": "batch_size = 23", 'model = "tiny:1"': 'model = "tiny:1"\nunfreeze = ["*image.2*"]'}
    recipe = write_recipe(tmp_path, changes)
    align(recipe, out=tmp_path / "alone")
    port = str(free_port())
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(recipe), str(tmp_path / "together")],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "step 6/6" in said[0] and said[0].splitlines()[-1] == str(tmp_path / "together" / "space")
    assert said[1] == ""  # the first process reports
    alone, together = (
        load_projection(tmp_path / name / "space/image.projection.safetensors").state_dict()
        for name in ("alone", "together")
    )
    assert all(torch.allclose(alone[key], together[key], atol=1e-5) for key in alone)
    tuned = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["model"] for n in ("alone", "together")]
    assert all(torch.allclose(tuned[0][key], tuned[1][key], atol=1e-5) for key in tuned[0])


def test_shares_cover_every_row_once() -> None:
    for size in (1, 2, 3, 5):
        parts = [World(rank, size).share(7) for rank in range(size)]
        assert [n for part in parts for n in range(7)[part]] == list(range(7))


def test_one_process_is_a_world_of_its_own() -> None:
    with join_world("cpu") as world:
        rows = torch.ones(3, 2)
        assert (world.size, world.first, world.gather(rows, 3) is rows, world.any(True)) == (1, True, True, True)
