"""Training with QKeras, and Keras as a front end: the only package of this project that imports TensorFlow.

In: a spec with its data set, or a user's Keras file. Out: a `TrainedModel`, or the outputs of Keras' own inference as
codes.

QKeras 0.9.0 runs on Keras 2, which today's TensorFlow offers as `tf-keras` if `TF_USE_LEGACY_KERAS=1` is set before
its Keras is first used. `load_tensorflow` sees to that, once; every module in this package gets its modules there.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from flow.errors import FlowError, InputError, ToolMissingError, UnsupportedError

INSTALL_COMMAND = "pip install 'po2flow[train]'"
_AROUND = ("Exception encountered when calling", "Graph execution error", "Detected at node")
_STACK = r"(tensorflow|tf_keras|qkeras|tensorflow_model_optimization|pyparsing|h5py)\b"


class OtherKerasError(ToolMissingError):
    """This process uses TensorFlow with Keras 3 already."""


class TensorFlowModules(NamedTuple):
    """The modules that training needs.

    Attributes:
        tf: `tensorflow`.
        keras: `tf.keras`, which is Keras 2 (the package `tf_keras`).
        qkeras: `qkeras`.
    """

    tf: Any
    keras: Any
    qkeras: Any


@cache
def load_tensorflow() -> TensorFlowModules:
    """Import TensorFlow with Keras 2, and QKeras.

    Returns:
        The modules; the same object at every call.

    Raises:
        ToolMissingError: a package is missing.
        OtherKerasError: TensorFlow's Keras 3 was in use before.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one order of summation on every machine
    with _silenced():
        _import("tf_keras")
        tf = _import("tensorflow")
        # `tensorflow` settles at its first import what `tensorflow.keras` is, whatever `tf.keras` says later
        if not _import("tensorflow.keras").layers.Layer.__module__.startswith("tf_keras"):
            raise OtherKerasError(
                "TensorFlow was imported with Keras 3, but QKeras needs Keras 2",
                remedy="set TF_USE_LEGACY_KERAS=1 in the environment before Python starts, or import flow.train before "
                "tensorflow",
            )
        tf.get_logger().setLevel(logging.ERROR)
        qkeras = _import("qkeras")
        cells = qkeras.qrecurrent  # its layers call functions by names that TensorFlow had for them
        cells.nest.is_sequence = getattr(cells.nest, "is_sequence", cells.nest.is_nested)
        for name in ("stack", "unstack"):
            setattr(cells.array_ops, name, getattr(cells.array_ops, name, getattr(tf, name)))
    return TensorFlowModules(tf=tf, keras=tf.keras, qkeras=qkeras)


@cache
def load_pruning() -> Any:
    """Import `tensorflow_model_optimization.sparsity.keras`.

    Raises:
        ToolMissingError: the package is missing.
    """
    load_tensorflow()
    with _silenced():
        return _import("tensorflow_model_optimization").sparsity.keras


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Hide warnings that packages of the training stack give about themselves; also a decorator."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=_STACK)
        yield


def complaint(error: Exception) -> str:
    """Return in one line what Keras or TensorFlow says is wrong, without the configuration and code around it."""
    text = str(error).rpartition("Exception encountered: ")[2].split("Call arguments received")[0].strip()
    if "in user code:" in text:
        text = text.splitlines()[-1].strip()
    said = [line for line in text.splitlines() if not line.startswith((" ", "\t", *_AROUND))]
    return re.sub(r"\{\{function_node.*?\}\}|\[Op:.*", "", " ".join(said)).strip()[:300] or type(error).__name__


@contextmanager
def keras_errors(what: str, refusal: type[InputError] = UnsupportedError) -> Iterator[None]:
    """Turn whatever QKeras, Keras, TensorFlow or HDF5 raises inside into a refusal; where it is, its caller says.

    An error that comes from lines of ours alone is no refusal of theirs, and stays what it is.

    Args:
        what: what they cannot do.
        refusal: class of the refusal.

    Raises:
        InputError: they failed.
    """
    try:
        yield
    except (FlowError, KeyboardInterrupt):
        raise
    except Exception as error:
        frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
        if all(name.partition(".")[0] in ("flow", "contextlib") for name in frames):
            raise
        raise refusal(f"{what}: {complaint(error)}") from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Hide what imports print: warnings of other packages, and TensorFlow's C++ log before its level can be set."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
            os.dup2(nowhere.fileno(), 2)
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        remedy = f"run: {INSTALL_COMMAND}"
        raise ToolMissingError(f"package '{name}' cannot be imported ({error})", remedy=remedy) from error
