"""What the outputs of a comparison are worth: accuracy, confusion of classes, distance from the float softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.frontend.trained import TrainedModel
from flow.ir.fixed import to_values
from flow.ir.graph import IntGraph
from flow.quantization.stage import Quantization
from flow.report.record import Comparison
from flow.verification.levels import REFERENCE, is_software

CONFUSION_CLASSES = 100
"""Classes up to which the report says which was taken for which."""


def accuracy(
    graph: IntGraph, comparison: Comparison | None, trained: TrainedModel, quantization: Quantization | None
) -> dict[str, Any]:
    """Return accuracies as fractions from 0 to 1, measured at training and in this run; None where not measured."""
    measured = measured_accuracy(graph, comparison)
    if quantization is not None:
        own = {"float": None, "quantized": None, "qkeras_at_training": None, **quantization.accuracy}
        return {**measured, **own, "hardware": measured["hardware"]}
    return {
        "float": trained.metrics.get("float"),
        "qkeras_at_training": trained.metrics.get("qkeras"),
        "samples_at_training": trained.provenance.get("test_samples"),
        **measured,
    }


def measured_accuracy(graph: IntGraph, comparison: Comparison | None) -> dict[str, Any]:
    """Return accuracies as fractions, measured on the labelled inputs of a comparison."""
    measured: dict[str, Any] = {"qkeras": None, "hardware": None, "samples": 0}
    labels = None if comparison is None else comparison.port.labels
    if labels is None:
        return measured
    shares = {level: float(np.mean(said == labels)) for level, said in _classes(graph, comparison).items()}
    return {**measured, "samples": len(labels), **shares}


def confusion(graph: IntGraph, comparison: Comparison | None, trained: Any) -> dict[str, Any] | None:
    """Return how often each class was taken for each: rows are labels, columns what the first output says.

    Args:
        graph: after the passes.
        comparison: its inputs need labels, each the number of a class; None gives None, as do too many classes.
        trained: the same of the float twin, counted at training; None if it was not.
    """
    count = math.prod(graph.output.shape)
    labels = None if comparison is None else comparison.port.labels
    if labels is None or count > CONFUSION_CLASSES or not ((labels >= 0) & (labels < count)).all():
        return None
    matrices: dict[str, Any] = {"classes": count, "float": trained, "qkeras": None, "hardware": None}
    for level, said in _classes(graph, comparison).items():
        matrices[level] = np.bincount(labels * count + said, minlength=count**2).reshape(count, count).tolist()
    return matrices


def _classes(graph: IntGraph, comparison: Comparison | None) -> dict[str, NDArray[np.int64]]:
    """Return the class of each labelled input, int64 (samples,): "qkeras" and "hardware", where they were run."""
    classes: dict[str, NDArray[np.int64]] = {}
    if comparison is None or comparison.port.labels is None:
        return classes
    name, count = graph.output.name, len(comparison.port.labels)
    for result in (comparison.reference, *comparison.others):
        if result.level != REFERENCE:
            scores = result.softmax[name] if name in result.softmax else result.codes[name]
            role = "qkeras" if is_software(result.level) else "hardware"
            classes[role] = scores[:count].reshape(count, -1).argmax(axis=1)
    return classes


def softmax(graph: IntGraph, comparison: Comparison | None) -> list[dict[str, Any]]:
    """Return how far each integer softmax is from QKeras' float one, over all inputs that were run."""
    distances = []
    for result in comparison.others if comparison else ():
        for name, exact in result.softmax.items():
            values = to_values(comparison.reference.codes[name], graph[name].format)  # type: ignore[union-attr]
            same = values.argmax(axis=-1) == exact.argmax(axis=-1)
            distances.append(
                {
                    "op": name,
                    "largest_difference": float(np.abs(values - exact).max(initial=0)),
                    "same_argmax": int(np.count_nonzero(same)),
                    "compared": int(same.size),
                }
            )
    return distances
