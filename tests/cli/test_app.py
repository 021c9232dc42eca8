from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import embedspace
from embedspace.cli.reference import markdown
from embedspace.cli.shared.space import kept_spaces, load_space, quick_start
from embedspace.errors import CatalogLockedError, InputError
from tests.support.cli_media import Run, make_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


def _raise_in_space(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def load_space(*_: object) -> None:
        raise error

    monkeypatch.setattr("embedspace.cli.shared.space.load_space", load_space)


def test_version(run: Run) -> None:
    assert run("--version").out == f"embedspace {embedspace.__version__}\n"


def test_help_names_every_verb(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    for verb in ("index", "search", "embed", "catalog", "eval", "train"):
        assert f"\n  {verb} " in result.out


def test_no_arguments_show_the_help(run: Run) -> None:
    result = run()
    assert (result.code, result.err) == (0, "")
    assert "\n  search " in result.out
    for example in ("index ~/media", 'search media.catalog "a barking dog"', "generate --from dog.png"):
        assert f"\n    embedspace {example}" in result.out
    group = run("catalog")
    assert (group.code, group.err) == (0, "")
    assert "\n  verify " in group.out


def test_the_package_itself_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedspace", "--version"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"embedspace {embedspace.__version__}\n")


def test_the_shell_is_told_what_may_follow() -> None:
    asked = {"_EMBEDSPACE_COMPLETE": "complete_bash", "COMP_WORDS": "embedspace catalog ver", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "embedspace"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env=os.environ | asked,
    )
    assert done.stdout.split() == ["verify"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch"], "No such command 'fetch'"),
        (["search"], "Missing argument 'CATALOG'"),
        (["search", "c", "q", "-k", "0"], "-k"),
        (["search", "c", "q", "--to", "smell"], "smell"),
        (["search", "c", "q", "--min-probability", "2"], "--min-probability"),
        (["index", "x"], "--catalog"),
        (["catalog", "burn"], "No such command 'burn'"),
        (["embed", "a", "--batch-size", "many"], "--batch-size"),
    ],
)
def test_usage_mistakes_are_one_line(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert message in result.error
    assert "--help'" in result.error


def test_an_earlier_name_of_an_option_goes_on_working(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from embedspace.cli import main

    for given in (["--space", str(tmp_path)], ["--weights", str(tmp_path)], [f"--weights={tmp_path}"]):
        assert main(["embed", "words", "--json", *given]) == 2
        assert f"{tmp_path}: no space there" in capsys.readouterr().err


def test_an_expected_error_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from embedspace.cli import main

    _raise_in_space(monkeypatch, CatalogLockedError("x.catalog: another process\nis writing"))
    assert main(["embed", "words", "--json", "--debug"]) == 2
    assert capsys.readouterr().err == "embedspace: x.catalog: another process is writing\n"


def test_an_unexpected_error_is_one_line_unless_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from embedspace.cli import main

    _raise_in_space(monkeypatch, ZeroDivisionError("division by zero"))
    assert main(["embed", "words", "--json"]) == 70
    line = "embedspace: unexpected ZeroDivisionError: division by zero; run again with --debug for the traceback\n"
    assert capsys.readouterr().err == line
    with pytest.raises(ZeroDivisionError):
        main(["embed", "words", "--json", "--debug"])
    monkeypatch.setenv("EMBEDSPACE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["embed", "words", "--json"])


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from embedspace.cli import main

    _raise_in_space(monkeypatch, KeyboardInterrupt())
    assert main(["embed", "words", "--json"]) == 130
    assert capsys.readouterr().err == "embedspace: interrupted\n"


def test_a_closed_pipe_is_silent() -> None:
    command = f"'{sys.executable}' -m embedspace.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")  # 0 when the help was written before the reader left


def test_a_pipe_closed_while_writing_is_silent() -> None:
    code = "import sys, time; time.sleep(0.3); from embedspace.cli import main; sys.exit(main(['--help']))"
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writing)
    os.close(reading)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (141, b"")


@pytest.mark.parametrize(
    ("device", "message"), [("tpu", "known: cpu, cuda"), ("cuda:99", "torch can use"), ("mps:7", "torch can use")]
)
def test_a_device_that_is_not_there_is_a_mistake(device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_space(None, device)


def test_commands_share_a_space_where_it_is_kept() -> None:
    with kept_spaces():
        first = load_space("default")
        assert load_space("default") is first
    assert load_space("default") is not first


def test_quick_start_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(KeyError), quick_start(words_only=True):
        assert (os.environ["OMP_NUM_THREADS"], gc.isenabled()) == ("1", False)
        raise KeyError
    assert "OMP_NUM_THREADS" not in os.environ
    assert gc.isenabled()
    with quick_start(words_only=False):
        assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with quick_start(words_only=True):
        assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    code = "import sys; from embedspace.cli import main; sys.exit(main(['--help']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line


def test_no_verb_after_a_group_shows_its_help(run: Run) -> None:
    result = run("catalog")
    assert result.code in (0, 2)
    assert "Usage: embedspace catalog" in result.out + result.err


def test_the_command_line_loads_no_model_library() -> None:
    code = (
        "import sys, embedspace.cli; "
        "print([name for name in ('torch', 'faiss', 'numpy', 'rich', 'PIL', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_docs_are_those_of_the_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m embedspace.cli.reference > docs/cli.md"
