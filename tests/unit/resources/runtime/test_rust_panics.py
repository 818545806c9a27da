"""A process of K2's whose Rust library fails ends without a backtrace, even where the environment asks for one."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("process", ["import k2_platform.code_location", "from k2_cli.main import k2; k2()"])
def test_processes_of_ours_ask_for_no_backtrace(
    process: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    monkeypatch.setenv("K2_HOME", str(tmp_path_factory.mktemp("home")))
    program = f"{process}\nimport os; print(os.environ['RUST_BACKTRACE'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["0"]
