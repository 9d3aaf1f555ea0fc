"""What a front end is, and the literal table of them.

A front end brings a framework's models in: it reads a user's file, and says how the framework itself computes what the
file says. That is the software level of a comparison. Adding one is a module with a `FRONTEND` and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import ModelFileError, shown
from flow.frontend.layers import Network
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.results import SimResult

if TYPE_CHECKING:
    from flow.frontend.trained import TrainedModel

Evaluate = Callable[[Sequence[Any], NDArray[np.float32]], NDArray[np.float32]]
"""The composition of some element-wise functions, first applied first, on values. A function is given in the form that
the front end's reader gave it."""
Floats = NDArray[np.floating[Any]]
Inference = Callable[[Codes], SimResult]
"""Codes of every op that is the output of a layer, for input codes (samples, *port_shape)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """A framework whose models are read.

    Attributes:
        name: what `TrainedModel.frontend` says.
        level: what its own inference is called among the levels of a comparison.
        code: the rooms whose code reads files: what was read is read again when it changes.
        takes: whether a path is a file, or a directory, that it reads.
        read_file: the user's file, and a file of weights or None -> the model as data.
        read: the model as data -> its layers.
        evaluate: element-wise functions as its inference computes them, to the last bit.
        approximate: the same where the last bit does not matter.
        inference: its own inference, on the user's files or on the model as data if they are None; of the graphs before
            and after the passes.
        freeze: the model as data with what it would find in each batch of data found in samples; of the same files.
        outputs: what the model itself computes at the outputs of the graph after the passes, by op, as numbers; of the
            same files, for input codes (samples, *port_shape).
    """

    name: str
    level: str
    code: tuple[str, ...]
    takes: Callable[[Path], bool]
    read_file: Callable[[Path, Path | None], TrainedModel]
    read: Callable[[TrainedModel], Network]
    evaluate: Evaluate
    approximate: Evaluate
    inference: Callable[[TrainedModel, Path | None, Path | None, IntGraph, IntGraph], Inference]
    outputs: Callable[[TrainedModel, Path | None, Path | None, IntGraph, Codes], Mapping[str, NDArray[np.float32]]]
    freeze: Callable[[TrainedModel, Path | None, Path | None, Floats | None], TrainedModel] = lambda trained, *_: (
        trained
    )


FRONTENDS: Mapping[str, str] = {"keras": "flow.train.frontend"}
"""Front end -> the module that has its `FRONTEND`. They are asked in this order who takes a file; Keras, which comes
last, takes every file that no other does, and says what is wrong with it."""


def front_end(name: str) -> Frontend:
    """Return the front end of a name.

    Raises:
        ModelFileError: there is none: the model is of another version, or was changed by hand.
    """
    if name not in FRONTENDS:
        raise ModelFileError(f"its front end {shown(name)} is not known", remedy=f"there are: {', '.join(FRONTENDS)}")
    value: Frontend = import_module(FRONTENDS[name]).FRONTEND
    return value


def taker(path: Path) -> Frontend | None:
    """Return the front end that takes a path as a user's file, or None."""
    return next((own for own in map(front_end, FRONTENDS) if own.takes(path)), None)


def read(model: TrainedModel) -> Network:
    """Return the layers of a model, as the front end that it came from reads them.

    Raises:
        UnsupportedError: its layers cannot be connected.
    """
    return front_end(model.frontend).read(model)
