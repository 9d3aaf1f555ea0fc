"""The depth of each FIFO in a project: written into it, and read back."""

from __future__ import annotations

import re
from typing import Any

from flow.cost.fifos import fifos
from flow.ir.graph import IntGraph

DEPTH = re.compile(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)")


def set_depths(model: Any, graph: IntGraph) -> None:
    """Give the streams of an hls4ml model, after its passes, the depths of `cost.fifos`; hls4ml's are whole tensors."""
    for fifo in fifos(graph):
        model.get_layer_output_variable(fifo.stream).pragma = ("stream", fifo.depth)


def read_depths(source: str) -> dict[str, int]:
    """Return, by variable, the depths that the text of a top function gives."""
    return {variable: int(depth) for variable, depth in DEPTH.findall(source)}
