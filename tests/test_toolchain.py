"""Programs: found, required, run; with fakes for those that are missing, fail, or never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from flow import toolchain
from flow.errors import ToolFailedError, ToolMissingError
from flow.toolchain import (
    INSTALL,
    ending_in_order,
    find_tool,
    require_tool,
    run_all,
    run_pool,
    run_tool,
    tool_version,
)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that puts a shell script on an otherwise empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name: str, script: str, directory: Path = tmp_path) -> str:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_found_on_the_path_or_named_by_the_environment(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tool("g++") is None
    on_path = fake("g++", "true")
    assert find_tool("g++") == require_tool("g++") == on_path
    (tmp_path / "other").mkdir()
    other = fake("my-g++", "true", tmp_path / "other")
    monkeypatch.setenv("FLOW_GXX", other)
    assert find_tool("g++") == other
    monkeypatch.setenv("FLOW_VITIS_RUN", other)
    assert find_tool("vitis-run") == other
    monkeypatch.setenv("FLOW_GXX", str(tmp_path / "absent"))
    assert find_tool("g++") is None


@pytest.mark.parametrize("name", [*INSTALL, "some-tool"])
def test_missing(fake, name: str) -> None:
    with pytest.raises(ToolMissingError, match=r"is not on PATH; .*install") as caught:
        require_tool(name)
    assert caught.value.exit_code == 3 and f"'{name}'" in str(caught.value)


def test_what_it_prints_is_returned(fake, tmp_path: Path) -> None:
    talk = fake("talk", 'echo "$1"; echo "to stderr" >&2; pwd; read line || echo "no input"')
    said = run_tool([talk, "a b"], tmp_path).splitlines()
    assert said == ["a b", "to stderr", str(tmp_path), "no input"]
    assert "\ufffd" in run_tool([fake("binary", r"printf '\377'")], tmp_path)


def test_failing(fake, tmp_path: Path) -> None:
    broken = fake("broken", "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done; exit 7")
    with pytest.raises(ToolFailedError, match="broken failed with status 7 in") as caught:
        run_tool([broken], tmp_path)
    assert "line 39" in str(caught.value) and "line 20" not in str(caught.value) and caught.value.exit_code == 4
    with pytest.raises(ToolFailedError, match="could not be started"):
        run_tool([str(tmp_path / "absent")], tmp_path)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ToolFailedError, match="could not be started"):
        run_tool([str(tmp_path / "text")], tmp_path)


def test_a_program_that_never_ends_is_ended(fake, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    endless = fake("endless", f"echo $$ > {place}; while :; do :; done")
    with pytest.raises(ToolFailedError, match=r"took longer than 2 s"):
        run_tool([endless], tmp_path, timeout_s=2)
    assert ends(int(place.read_text()))


def test_side_by_side(fake, tmp_path: Path) -> None:
    touch, broken = fake("touch", ': > "$1"'), fake("broken", "exit 1")
    run_all([[touch, f"{tmp_path}/{name}"] for name in "abcdef"], tmp_path)
    assert {"a", "b", "c", "d", "e", "f"} <= set(os.listdir(tmp_path))
    with pytest.raises(ToolFailedError, match="broken failed with status 1"):
        run_all([[touch, f"{tmp_path}/g"], [broken], [touch, f"{tmp_path}/h"]], tmp_path)


def test_a_pool(fake, tmp_path: Path) -> None:
    touch, broken, ended = fake("touch", ': > "$1"'), fake("broken", "echo why; exit 3"), list[str]()
    run_pool({name: [touch, f"{tmp_path}/{name}"] for name in "abcde"}, tmp_path, 60, ended.append)
    assert sorted(ended) == list("abcde") and set(ended) <= set(os.listdir(tmp_path))
    with pytest.raises(ToolFailedError, match=r"^x: broken failed with status 3 in .*\nwhy$"):
        run_pool({"x": [broken]}, tmp_path, 60, ended.append)
    with pytest.raises(ToolFailedError, match="could not be started"):
        run_pool({"x": [str(tmp_path / "absent")]}, tmp_path, 60, ended.append)
    with pytest.raises(ToolFailedError, match=r"x: /bin/sleep took longer than 0\.2 s"):
        run_pool({"x": ["/bin/sleep", "60"]}, tmp_path, 0.2, ended.append)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_pool_that_is_interrupted_leaves_nothing_running(
    fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The second program is ended with the child that it started."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    alive, quick = tmp_path / "alive", fake("quick", f"while [ ! -s {tmp_path}/alive ]; do :; done")
    slow = fake("slow", f"/bin/sleep 60 & echo $! > {alive}; wait")

    def interrupt(name: str) -> None:
        raise error

    with pytest.raises(error):
        run_pool({"slow": [slow], "quick": [quick]}, tmp_path, 60, interrupt)
    assert ends(int(alive.read_text()))


def ends(process: int) -> bool:
    """Say whether a process ends within 5 seconds; one that nobody waits for stays as a zombie."""
    status, deadline = Path(f"/proc/{process}/stat"), time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ProcessLookupError):
            if status.read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


INTERRUPTED = """
import sys
from pathlib import Path
from flow.toolchain import ending_in_order, run_all, run_pool, run_tool
command = ["/bin/sh", "-c", f"/bin/sleep 60 & echo $! > {sys.argv[2]}; wait"]
with ending_in_order():
    here = Path.cwd()
    {"one": lambda: run_tool(command, here), "all": lambda: run_all([command] * 9, here),
     "pool": lambda: run_pool({"x": command}, here, None, print)}[sys.argv[1]]()
"""


@pytest.mark.parametrize("how", ["one", "all", "pool"])
@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + 15)])
def test_a_signal_to_this_process_alone_ends_what_it_started(
    tmp_path: Path, how: str, sign: signal.Signals, status: int
) -> None:
    """As `kill` sends it, not a terminal, which tells all processes; nothing that was to come is started."""
    alive = tmp_path / "alive"
    command = [sys.executable, "-c", INTERRUPTED, how, str(alive)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not alive.exists() or not alive.read_text().strip():
            time.sleep(0.02)
        process.send_signal(sign)
        assert process.wait(10) == status
    assert ends(int(alive.read_text()))


def test_a_signal_while_a_program_is_started_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = toolchain._start, list[int]()

    def interrupted(command: Sequence[str], directory: Path) -> toolchain._Running:
        running = start(command, directory)
        started.append(running.process.pid)
        os.kill(os.getpid(), signal.SIGINT)
        return running

    monkeypatch.setattr(toolchain, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tool(["/bin/sleep", "60"], tmp_path)
    assert ends(started[0])


def test_a_program_that_does_not_listen_is_killed(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "PATIENCE_S", 0.1)
    place = tmp_path / "pid"
    deaf = fake("deaf", f"trap '' TERM; echo $$ > {place}; while :; do :; done")
    with pytest.raises(ToolFailedError, match=r"deaf took longer than 2 s in"):
        run_tool([deaf], tmp_path, timeout_s=2)
    assert ends(int(place.read_text()))


def test_the_version_of_a_program(fake) -> None:
    assert tool_version(fake("talks", "echo; echo one; echo two")) == "one"
    assert tool_version(fake("talks", "echo; echo one; echo two"), -1) == "two"
    with pytest.raises(ToolFailedError, match="mute: says nothing when it is asked for its version"):
        tool_version(fake("mute", "exit 0"))


def test_a_signal_that_was_ignored_before_is_ignored_still() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_in_order():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(SystemExit, match="143"):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
