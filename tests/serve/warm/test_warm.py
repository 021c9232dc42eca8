"""The warm command: real processes at a real socket; whatever is amiss, the command runs as if there were no server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import embedspace
from embedspace import warm
from embedspace.catalog import Catalog, CatalogItem
from embedspace.errors import InputError
from embedspace.segment import Segment
from embedspace.serve.warm.answering import read_request
from embedspace.serve.warm.control import running_server, stop_server
from embedspace.serve.warm.server import WarmServer
from embedspace.serve.warm.stamp import stamp_of
from embedspace.space import EmbeddingSpace

ROOT = Path(__file__).resolve().parents[3]
ECHO = """
import os, sys, time
from embedspace.serve.warm.server import WarmServer, stopped_by_signals
from embedspace.serve.warm.stamp import stamp_of

def run(arguments):
    what = arguments[1]
    if what == "where":
        print(os.getcwd(), os.environ.get("MARK"), os.environ.get("COLUMNS"), sys.stdout.isatty(), *arguments[2:])
        print("a remark", file=sys.stderr)
        print("last")
        return 3
    if what == "mask":
        open(arguments[2], "w").close()
    if what == "stdin":
        print("half", flush=True)
        print(sys.stdin.read())
    if what == "sleep":
        print("half of it", flush=True)
        open(arguments[2] + ".begun", "w").close()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            open(arguments[2], "w").close()
            return 130
    if what == "defect":
        return 70
    if what == "ready":
        print(os.getpid(), *ready)
    return 0

ready = []

def prepare():
    if sys.argv[3] == "slow":
        time.sleep(60)
    ready.append(f"ready in {os.getpid()}")
    if sys.argv[3] == "fails":
        raise ValueError("on purpose")

idle = float(sys.argv[1]) or None
stamp = stamp_of([__import__("pathlib").Path(sys.argv[2])])
server = WarmServer(run, idle=idle, stamp=stamp, prepare=prepare if sys.argv[3] else None)
stopped_by_signals(server)
print("up", flush=True)
server.serve()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return run / "embedspace"


def start(folder: Path, idle: float = 0, prepare: str = "") -> subprocess.Popen[str]:
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    command = [sys.executable, "-c", ECHO, str(idle), str(weights), prepare]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    return process


@pytest.fixture
def server(place: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path)
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


def asked(*arguments: str, patience: float = 5.0) -> warm.Reply | None:
    return warm.ask(warm.request(arguments), patience)


def until(true: object, seconds: float = 20.0) -> None:
    last = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < last
        time.sleep(0.02)


def test_a_command_runs_as_where_it_was_asked(
    server: subprocess.Popen[str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.stat().st_mode & 0o777 == 0o700 and (place / "warm.sock").stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARK", "é=1\n2")
    monkeypatch.delenv("COLUMNS", raising=False)  # those who share the tests have it
    reply = asked("search", "where", "ä", "")
    assert reply is not None and reply.code == 3
    out = b"".join(content for kind, content in reply.parts if kind == warm.OUT).decode()
    assert out == f"{tmp_path} é=1\n2 None False ä \nlast\n"
    assert [content for kind, content in reply.parts if kind == warm.ERR] == [b"a remark\n"]
    before = os.umask(0o077)
    try:
        assert asked("embed", "mask", "made")
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert "2 commands answered" in (running_server() or "")


def test_what_needs_the_askers_own_process_runs_there(server: subprocess.Popen[str]) -> None:
    for arguments in (("search", "stdin"), ("search", "defect"), ("index", "where"), ()):
        assert asked(*arguments) is None, arguments
    assert warm.hand_over(["index", "where"], 5.0) is None
    assert warm.hand_over(["search", "nothing"], 5.0) is not None


def test_another_version_runs_cold(server: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedspace, "__version__", "0.0.0")
    assert asked("search", "where") is None
    monkeypatch.undo()


def test_another_place_of_modules_runs_cold(server: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:/elsewhere")
    assert asked("search", "where") is None


def test_changed_weights_end_the_server(server: subprocess.Popen[str], tmp_path: Path) -> None:
    assert asked("search", "nothing") is not None
    (tmp_path / "weights" / "text.safetensors").write_bytes(b"new")
    with pytest.raises(ConnectionError):
        asked("search", "nothing")
    assert server.wait(20) == 0


def test_stamp_sees_a_file_that_is_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    stamp = stamp_of([tmp_path])
    before = stamp()
    assert stamp() == before
    (tmp_path / "a.json").write_text("22")
    assert stamp() != before


def test_half_a_request_holds_nobody_up(server: subprocess.Popen[str]) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(warm.socket_path())
        slow.sendall(warm.request(["search", "where"])[:20])
        assert asked("search", "nothing") is not None
        slow.settimeout(20)
        assert slow.recv(1) == b""  # it is dropped


def test_nonsense_is_declined(server: subprocess.Popen[str]) -> None:
    for message in (b"\0\0\0\1x", b"\xff\xff\xff\xff", b"\0\0\0\0"):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(warm.socket_path())
            one.sendall(message)
            one.settimeout(20)
            assert one.recv(1) in (b"", warm.COLD)
    assert asked("search", "nothing") is not None


def test_a_server_that_does_not_answer_is_not_waited_for(place: Path) -> None:
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(warm.socket_path())
        silent.listen(1)
        started = time.monotonic()
        assert warm.hand_over(["search", "x"]) is None
        assert time.monotonic() - started < 1.0


def test_a_server_that_dies_in_the_middle_prints_nothing(
    server: subprocess.Popen[str], place: Path, tmp_path: Path
) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, "search", "sleep", str(tmp_path / "cut")], stdout=subprocess.PIPE, text=True
    )
    until(lambda: children(server.pid))
    for process in (*children(server.pid), server.pid):
        os.kill(process, signal.SIGKILL)
    out, _ = client.communicate(timeout=20)
    assert out == "ran cold\n"  # and not what the server had printed by then
    server.wait(20)
    assert (place / "warm.sock").exists()
    again = start(tmp_path)  # what was left is cleaned
    assert asked("search", "nothing") is not None
    assert "process" in (stop_server() or "") and again.wait(20) == 0
    assert not (place / "warm.sock").exists()
    assert again.stdout is not None
    again.stdout.close()


CLIENT = """
import sys
import embedspace.__main__ as entry
entry.hand_over = lambda arguments: entry_hand_over(arguments, 5.0)
from embedspace.warm import hand_over as entry_hand_over
import embedspace.cli
embedspace.cli.main = lambda arguments: print("ran cold") or 0
sys.exit(entry.main())
"""


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_goes_takes_its_command_along(
    server: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", CLIENT, "search", "sleep", str(tmp_path / "cut")]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: children(server.pid))
    time.sleep(0.3)  # until it sleeps
    client.send_signal(number)
    out, err = client.communicate(timeout=20)
    assert out == ""
    if number == signal.SIGINT:
        assert (client.returncode, err) == (130, "embedspace: interrupted\n")
    until(lambda: (tmp_path / "cut").exists())
    until(lambda: not children(server.pid))
    assert asked("search", "nothing") is not None


def test_it_ends_when_nobody_asks(place: Path, tmp_path: Path) -> None:
    process = start(tmp_path, idle=0.5)
    assert process.wait(20) == 0
    assert not (place / "warm.sock").exists()
    assert process.stdout is not None
    process.stdout.close()


def told(reply: warm.Reply | None) -> str:
    assert reply is not None and reply.code == 0
    return b"".join(content for _, content in reply.parts).decode().strip()


@pytest.fixture
def prepared(place: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path, prepare="yes")
    yield process
    process.kill()
    process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


def sleeping(process: int) -> bool:
    """Whether a process waits, as one that stands by does when it is ready."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("S")


def standing_by(server: subprocess.Popen[str]) -> int:
    def quiet() -> bool:
        found = children(server.pid)
        return len(found) == 1 and sleeping(found[0]) and sleeping(server.pid)

    still = 0
    while still < 5:  # one that only waits for the processor does not sleep
        until(quiet)
        time.sleep(0.05)
        still = still + 1 if quiet() else 0
    return children(server.pid)[0]


def test_a_copy_gets_ready_before_it_is_asked(prepared: subprocess.Popen[str]) -> None:
    seen = []
    for _ in range(3):
        process = standing_by(prepared)
        assert told(asked("search", "ready")) == f"{process} ready in {process}"
        seen.append(process)
    assert len(set(seen)) == 3  # no process answers twice
    standing_by(prepared)
    assert "3 commands answered" in (running_server() or "")


def test_commands_at_once_meet_one_copy_each(prepared: subprocess.Popen[str], tmp_path: Path) -> None:
    process = standing_by(prepared)
    command = [sys.executable, "-c", CLIENT, "search", "sleep", str(tmp_path / "cut")]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until((tmp_path / "cut.begun").exists)
    assert children(prepared.pid) == [process]  # it is at work
    other = told(asked("search", "ready"))
    assert other.isdecimal() and int(other) != process  # a fresh one, which did not get ready
    client.send_signal(signal.SIGINT)
    client.wait(20)
    until((tmp_path / "cut").exists)
    again = standing_by(prepared)
    assert told(asked("search", "ready")) == f"{again} ready in {again}"


def test_a_copy_that_was_killed_is_done_without(prepared: subprocess.Popen[str]) -> None:
    process = standing_by(prepared)
    os.kill(process, signal.SIGKILL)
    until(lambda: not children(prepared.pid))
    assert told(asked("search", "ready")).isdecimal()
    again = standing_by(prepared)
    assert again != process and told(asked("search", "ready")).startswith(str(again))


@pytest.mark.parametrize("how", ["slow", "fails"])
def test_a_copy_that_does_not_get_ready_holds_nobody_up(place: Path, tmp_path: Path, how: str) -> None:
    process = start(tmp_path, prepare=how)
    begun = time.monotonic()
    if how == "fails":
        standing_by(process)
    assert told(asked("search", "ready"))
    assert time.monotonic() - begun < 10
    assert stop_server() is not None and process.wait(20) == 0
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_copy_ends_with_the_server(prepared: subprocess.Popen[str], number: signal.Signals) -> None:
    process = standing_by(prepared)
    prepared.send_signal(number)
    prepared.wait(20)
    until(lambda: not Path(f"/proc/{process}").exists())


def test_another_user_is_refused(server: subprocess.Popen[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "peer", lambda connection: (1, os.getuid() + 1))
    with pytest.raises(PermissionError, match="another user"):
        asked("search", "nothing")
    assert warm.hand_over(["search", "nothing"], 5.0) is None
    monkeypatch.undo()


def test_the_server_refuses_another_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = WarmServer(lambda arguments: 0)
    monkeypatch.setattr(warm, "peer", lambda connection: (1, os.getuid() + 1))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(warm.socket_path())
        server._accept()
        stranger.settimeout(5)
        assert stranger.recv(1) == b""
    assert server._clients == {}
    server.stop()
    server.serve()


def test_an_open_folder_is_refused(place: Path) -> None:
    place.mkdir(mode=0o700)
    place.chmod(0o755)
    with pytest.raises(InputError, match="chmod 700"):
        WarmServer(lambda arguments: 0)
    with pytest.raises(PermissionError):
        asked("search", "x")


def test_two_servers_do_not_meet(server: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match="runs already"):
        WarmServer(lambda arguments: 0)


def test_a_request_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", "a=b\nc")
    message = warm.request(["search", "x", ""])
    read = read_request(message[4:])
    assert read is not None and read.arguments == ["search", "x", ""] and read.variables["ODD"] == "a=b\nc"
    assert read.folder == os.getcwd() and read.identity == warm.identity()
    assert read_request(b"x\0y") is None
    assert read_request(message[4:].replace(b"\0003\0", b"\0999999\0", 1)) is None


def test_the_entry_imports_next_to_nothing() -> None:
    code = "import sys; old = set(sys.modules); import embedspace.__main__; print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) <= {"embedspace", "embedspace.__main__", "embedspace.warm", "__future__"}


def test_the_real_command_is_answered_as_it_runs_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search and embed by `embedspace serve --background`; what another process adds is found by the next search."""
    space, path = EmbeddingSpace.from_pretrained(), tmp_path / "made.catalog"
    row = space.encode_text(["a red bicycle"])[0]
    with Catalog.create(
        path, embed_dim=space.embed_dim, fingerprints=space.fingerprints(), calibration_json=space.calibration_json()
    ) as catalog:
        catalog.add([CatalogItem("/one", "text", [Segment("text", row, text="one")], {})])
    shell = [sys.executable, "-m", "embedspace"]

    def ran(*arguments: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"XDG_RUNTIME_DIR": str(tmp_path)} if alone else {})}
        command = [*shell, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)

    cold = ran("search", "made.catalog", "a red bicycle", "--json", alone=True)
    begun = ran("serve", "made.catalog", "--background", "--no-http", "--idle", "2m")
    assert begun.returncode == 0, begun.stderr
    monkeypatch.chdir(tmp_path)
    try:
        for arguments in (["search", "made.catalog", "a red bicycle", "--json"], ["search", "gone.catalog", "x"]):
            reply = asked(*arguments)
            alone = cold if arguments[1] == "made.catalog" else ran(*arguments, alone=True)
            assert reply is not None and reply.code == alone.returncode
            said = {kind: b"".join(c for k, c in reply.parts if k == kind).decode() for kind in (warm.OUT, warm.ERR)}
            assert (said[warm.OUT], said[warm.ERR]) == (alone.stdout, alone.stderr)
        with Catalog.open(path) as catalog:
            catalog.add([CatalogItem("/two", "text", [Segment("text", row, text="two")], {})])
        reply = asked("search", "made.catalog", "a red bicycle", "--json")
        assert reply is not None
        assert {json.loads(line)["uri"] for _, part in reply.parts for line in part.splitlines()} == {"/one", "/two"}
        reply = asked("embed", "a red bicycle", "--out", "row.npy")
        assert reply is not None and reply.code == 0
        np.testing.assert_allclose(np.load(tmp_path / "row.npy")[0], row, atol=1e-5)
        assert "runs already" in ran("serve", "made.catalog", "--background", "--no-http").stderr
        assert "4 commands answered" in ran("serve", "--status").stdout
        path.rename(tmp_path / "old.catalog")
        about = {"fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
        for rows in ([], [CatalogItem("/new", "text", [Segment("text", row, text="new")], {})]):
            with Catalog.create(path, embed_dim=space.embed_dim, **about) as catalog:
                catalog.add(rows)
            alone = ran("search", "made.catalog", "a red bicycle", alone=True)
            reply = asked("search", "made.catalog", "a red bicycle")
            assert reply is not None and told(reply) == (alone.stdout + alone.stderr).strip()
            assert "/new" in told(reply) if rows else "--catalog made.catalog" in told(reply)
            path.rename(tmp_path / f"{len(rows)}.catalog")
        Catalog.create(path, embed_dim=space.embed_dim, **about).close()
        alone = ran("search", "made.catalog", "a red bicycle", alone=True)
        for _ in range(2):
            assert told(asked("search", "made.catalog", "a red bicycle")) == (alone.stdout + alone.stderr).strip()
            time.sleep(1.5)  # until a copy has it open, by its whole path
    finally:
        assert "stopped: process" in ran("serve", "--stop").stdout
    assert ran("serve", "--status").returncode == 1
    assert (
        "name the catalog" in ran("serve").stderr and "not a time" in ran("serve", "x", "--warm", "--idle", "y").stderr
    )


def test_one_command_serves_http_and_the_command_line_and_both_end(place: Path, tmp_path: Path) -> None:
    space, path = EmbeddingSpace.from_pretrained(), tmp_path / "made.catalog"
    Catalog.create(path, embed_dim=space.embed_dim, fingerprints=space.fingerprints()).close()
    shell = [sys.executable, "-m", "embedspace", "serve"]
    begun = subprocess.run(
        [*shell, str(path), "--background", "--port", "0"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert begun.returncode == 0, begun.stderr
    address = next(part.strip(",;") for part in begun.stdout.split() if part.startswith("http://")).rstrip(";")
    with urllib.request.urlopen(f"{address}/health", timeout=20) as response:
        assert response.status == 200
    reply = asked("search", str(path), "a dog")
    assert reply is not None and reply.code == 0 and b"the catalog is empty" in reply.parts[-1][1]
    assert "stopped" in subprocess.run([*shell, "--stop"], capture_output=True, text=True, check=True).stdout

    def is_gone() -> bool:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            return True
        return False

    until(is_gone, 40)
