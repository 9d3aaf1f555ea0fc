"""`flow doctor`: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import sys
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from fixtures_cli import flow

from flow import doctor
from flow.doctor import Finding, examine
from flow.toolchain import import_error


def finding(what: str) -> Finding:
    return next(each for each in examine() if each.what == what)


def test_every_finding_says_what_to_do() -> None:
    found = examine()
    assert len({each.what for each in found}) == len(found)
    for each in found:
        assert each.found
        assert each.needed_for
        assert each.remedy
    assert {each.what for each in found if each.required} == {"Python", "hls4ml", "numpy", "g++"}


def test_the_exit_code_is_3_when_something_required_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("FLOW_GXX", "FLOW_VITIS_RUN", "FLOW_VIVADO_HLS"):
        monkeypatch.delenv(name, raising=False)
    outcome = flow("doctor")
    assert outcome.code == 3
    assert "missing g++" in outcome.out
    assert "apt-get install g++" in outcome.out
    assert outcome.err == ""
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    outcome = flow("doctor")
    assert outcome.code == 0, "vendor tools are not required"
    assert "\n        needed for C simulation ('flow build', 'flow compare')\n" in outcome.out
    assert "\n        optional, needed for 'flow build --until vivado'\n" in outcome.out
    assert str(tmp_path / "g++") in outcome.out
    assert "missing vivado_hls" in outcome.out


def test_missing_packages_come_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name in ("qkeras", "hls4ml"):
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    assert not finding("qkeras").ok
    assert "po2flow[train]" in finding("qkeras").remedy
    assert finding("hls4ml").required
    assert flow("doctor").code == 3
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert not finding("numpy").ok


def test_keras_3_in_this_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = types.ModuleType("keras")
    keras.__version__ = "3.1.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keras", keras)
    found = finding("Keras 2 for QKeras")
    assert not found.ok
    assert "TF_USE_LEGACY_KERAS=1" in found.remedy
    keras.__version__ = "2.15.0"  # type: ignore[attr-defined]
    assert finding("Keras 2 for QKeras").ok


def test_an_old_python_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert not finding("Python").ok


def test_a_package_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is installed, but a library that it is linked with is not: said before the long work, with a command."""
    pytest.importorskip("pyosys", reason="pyosys is not installed")
    (tmp_path / "pyosys").mkdir()
    (tmp_path / "pyosys/__init__.py").write_text("")
    why = "libffi.so.8: cannot open shared object file"
    (tmp_path / "pyosys/libyosys.py").write_text(f"raise ImportError({why!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    import_error.cache_clear()
    try:
        said = finding("pyosys")
        assert not said.ok and why in said.found and said.remedy == "pip install --force-reinstall pyosys"
        refusal = flow("build", "digits_mlp", "--backend", "rtl", "--until", "synth", "--output", tmp_path)
        assert refusal.code == 3 and f"does not import: ImportError: {why}; run: pip install" in refusal.err
    finally:
        import_error.cache_clear()
    assert finding("bitwuzla").ok
