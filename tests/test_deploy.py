"""What can be held of the container and the service without Docker or systemd."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

from embedspace.cli import main

ROOT = Path(__file__).resolve().parents[1]


def _dockerfile() -> list[str]:
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_what_is_copied_is_there_and_let_in() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = [
        source
        for line in _dockerfile()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert {"requirements.lock", "embedspace", "deploy/entrypoint"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored, source


def test_the_container_runs_as_nobody_in_particular() -> None:
    lines = _dockerfile()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    assert lines.index("USER 10001") < next(k for k, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert any("/health" in line for line in lines if line.startswith("HEALTHCHECK"))


def test_installation_leaves_cuda_out(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        'if [ "$1 $2" = "-m venv" ]; then\n'
        'mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/embedspace"\nfi\n'
        f'echo "$@" >>{calls}\n'
        f'while [ $# -gt 0 ]; do if [ "$1" = --constraint ]; then cp "$2" {tmp_path}/pins; fi; shift; done\n'
    )
    fake.chmod(0o755)
    command = [str(ROOT / "deploy" / "install"), str(tmp_path / "venv")]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "PYTHON": str(fake)}, cwd=tmp_path)
    pins, said = (tmp_path / "pins").read_text(), calls.read_text()
    pinned = re.search(r"^torch==.*$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned and f"--index-url https://download.pytorch.org/whl/cpu {pinned[0]}" in said
    assert "./embedspace/weights .[serve,speech]" in said
    assert re.search(r"^(torch|nvidia|cuda|triton)", pins, re.MULTILINE) is None
    assert re.search(r"^numpy==", pins, re.MULTILINE) and re.search(r"^fastapi==", pins, re.MULTILINE)


def test_the_entrypoint_makes_a_token_where_there_is_none(tmp_path: Path) -> None:
    fake = tmp_path / "embedspace"
    fake.write_text('#!/bin/sh\necho "$EMBEDSPACE_TOKEN" "$@"\n')
    fake.chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def started(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "deploy" / "entrypoint"), *arguments]
        return subprocess.run(command, check=True, env={**path, **variables}, capture_output=True, text=True)

    first, second = started(), started()
    token = first.stdout.split()[0]
    assert len(token) >= 16 and token != second.stdout.split()[0] and f"#token={token}" in first.stderr
    assert first.stdout.split()[1:] == "serve /catalog/media.catalog --watch /media --host 0.0.0.0".split()
    own = started(EMBEDSPACE_TOKEN="a-secret-of-my-own")
    assert own.stdout.startswith("a-secret-of-my-own serve") and "secret" not in own.stderr
    assert started("search", "/catalog/media.catalog", "a dog").stdout.split()[0] == "search"


def test_the_service_runs_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((ROOT / "deploy" / "embedspace.service").read_text("utf-8"))
    command = unit["Service"]["ExecStart"].split()
    assert command[0] == "/opt/embedspace/bin/embedspace" and command[1] == "serve"
    assert command[2].startswith("/var/lib/" + unit["Service"]["StateDirectory"] + "/")
    assert unit["Service"]["DynamicUser"] == "yes" and unit["Service"]["ProtectSystem"] == "strict"
    assert main(["serve", "--help"]) == 0


def test_the_reference_of_the_api_is_written(tmp_path: Path) -> None:
    rules = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    wanted = re.search(r"^API := (.*)$", rules, re.MULTILINE)
    command = re.search(r"\$\(BIN\)/python (-m pdoc .*) build/api \$\(addprefix embedspace,\$\(API\)\)", rules)
    assert wanted and command
    modules = [f"embedspace{name}" for name in wanted[1].split()]
    run = [sys.executable, *command[1].split(), str(tmp_path), *modules]
    finished = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.returncode, "Traceback" in finished.stderr) == (0, False), finished.stderr[-2000:]
    for module in modules:
        assert (tmp_path / f"{module.replace('.', '/')}.html").exists(), module
    page = (tmp_path / "embedspace" / "space.html").read_text("utf-8")
    assert "EmbeddingSpace" in page and "from_pretrained" in page
