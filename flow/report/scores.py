"""What outputs are worth beside their labels: accuracies, errors, which class was taken for which, and softmax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.data.labels import ACCURACY, ERRORS, Labels, classes_of, threshold
from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph
from flow.report.record import Comparison
from flow.results import SimResult
from flow.verification.levels import REFERENCE, is_software

if TYPE_CHECKING:
    from flow.quantization.stage import Quantization

CONFUSION_CLASSES = 100
"""Classes up to which the report says which was taken for which."""
NETWORKS = ("float", "quantized", "qkeras", "hardware")
"""What is held against labels: the first two are measured by `flow quantize`."""


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
    """Return accuracies of the first output as fractions, measured on the labelled inputs of a comparison."""
    measured: dict[str, Any] = {"qkeras": None, "hardware": None, "samples": 0}
    labels = _first(comparison)
    if labels is None:
        return measured
    shares = {name: found[ACCURACY] for name, found in _measures(graph, comparison, labels).items()}
    return {**measured, "samples": len(labels.values), **shares}


def confusion(graph: IntGraph, comparison: Comparison | None, trained: Any) -> dict[str, Any] | None:
    """Return how often each class was taken for each: rows are labels, columns what the first output says.

    Args:
        graph: after the passes.
        comparison: its inputs need labels, each the number of a class; None gives None, as do too many classes.
        trained: the same of the float twin, counted at training; None if it was not.
    """
    labels = _first(comparison)
    matrices = None if labels is None else _matrices(graph, comparison, labels)
    return None if matrices is None else {"classes": matrices["classes"], "float": trained, **matrices}


def heads(
    graph: IntGraph, comparison: Comparison | None, before: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what each labelled output is worth; nothing of a lone one that tells classes, which `accuracy` says.

    Args:
        graph: after the passes.
        comparison: its inputs need labels.
        before: output -> what is measured -> network -> value, of the networks that `flow quantize` measures.
    """
    given = () if comparison is None else comparison.port.labels
    if len(graph.outputs) == 1 and all(labels.are_classes for labels in given):
        return []
    return [_head(graph, comparison, labels, before.get(labels.output, {})) for labels in given]


def _head(graph: IntGraph, comparison: Comparison | None, labels: Labels, before: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "output": labels.output or graph.outputs[labels.index],
        "op": graph.outputs[labels.index],
        "labels": "classes" if labels.are_classes else "targets",
        "samples": len(labels.values),
    }
    found = _measures(graph, comparison, labels)
    for what in (ACCURACY, *ERRORS):
        if (what == ACCURACY) == labels.are_classes:
            known = {**(before.get(what) or {}), "qkeras": None, "hardware": None}
            known |= {network: measures[what] for network, measures in found.items()}
            entry[what] = {network: known.get(network) for network in NETWORKS}
        else:
            entry[what] = None
    return entry | {"confusion": _matrices(graph, comparison, labels) if labels.are_classes else None}


def _first(comparison: Comparison | None) -> Labels | None:
    """Return the labels of the first output, if they are classes."""
    given = () if comparison is None else comparison.port.labels
    return next((labels for labels in given if labels.index == 0 and labels.are_classes), None)


def _measures(graph: IntGraph, comparison: Comparison | None, labels: Labels) -> dict[str, dict[str, float]]:
    """Return accuracy or errors of an output: of "qkeras" and "hardware", where they were run."""
    return {
        network: labels.measure(scores, limit, step)
        for network, scores, limit, step in _scores(graph, comparison, graph.outputs[labels.index])
    }


def _matrices(graph: IntGraph, comparison: Comparison | None, labels: Labels) -> dict[str, Any] | None:
    """Return how often each class was taken for each; None if a label is no class, or of too many classes."""
    output, values = graph.outputs[labels.index], labels.values
    count = classes_of(graph[output].shape, values)
    if count > CONFUSION_CLASSES or not ((values >= 0) & (values < count)).all():
        return None
    matrices: dict[str, Any] = {"classes": count, "qkeras": None, "hardware": None}
    for network, scores, limit, _ in _scores(graph, comparison, output):
        matrices[network] = labels.confusion(scores, limit, count)
    return matrices


def _scores(
    graph: IntGraph, comparison: Comparison | None, output: str
) -> Iterator[tuple[str, NDArray[Any], float, float]]:
    """Yield each network that was run, what it gave at an output, the threshold there, and the value of 1."""
    limit, step = threshold(graph, output), graph[output].format.step / graph[output].denominator
    for result in () if comparison is None else (comparison.reference, *comparison.others):
        if result.level != REFERENCE:
            network = "qkeras" if is_software(result.level) else "hardware"
            if output in result.softmax:
                yield network, result.softmax[output], limit, 1.0
            else:
                yield network, result.codes[output], limit / step, step


def softmax(graph: IntGraph, comparison: Comparison | None) -> list[dict[str, Any]]:
    """Return how far each integer softmax is from QKeras' float one, over all inputs that were run."""
    distances = []
    for result in comparison.others if comparison else ():
        for name, exact in result.softmax.items():
            values = graph[name].numbers(comparison.reference.codes[name])  # type: ignore[union-attr]
            same = values.argmax(axis=-1) == exact.argmax(axis=-1)
            largest = float(np.abs(values - exact).max(initial=0))
            equal = {"same_argmax": int(np.count_nonzero(same)), "compared": int(same.size)}
            distances.append({"op": name, "largest_difference": largest, **equal})
    return distances


def distances(graph: IntGraph, reference: SimResult, own: Mapping[str, NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Return how far the outputs of a graph are from those of the model that it is not exactly.

    Args:
        graph: after the passes.
        reference: its codes, of the same inputs and maybe more.
        own: output op -> what the model computes, (samples, *op.shape).
    """
    found = []
    for name, exact in own.items():
        values = graph[name].numbers(reference.codes[name][: len(exact)].astype(np.int64))
        apart, same = np.abs(values - exact), values.argmax(axis=-1) == exact.argmax(axis=-1)
        largest, mean = float(apart.max(initial=0)), float(apart.mean()) if apart.size else 0.0
        equal = {"same_argmax": int(np.count_nonzero(same)), "compared": int(same.size)}
        found.append({"op": name, "largest_difference": largest, "mean_difference": mean, **equal})
    return found
