"""The stage of a build that quantizes a float model: calibration samples, the search and its memory, measurements."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.cost.requantizers import load_costs, requantization_cost
from flow.data.inputs import Samples, to_port
from flow.data.labels import ACCURACY, Labels, threshold
from flow.errors import InputError
from flow.files import locked
from flow.frontend.base import Evaluate, front_end
from flow.frontend.trained import TrainedModel
from flow.ir import reference
from flow.ir.fixed import FixedFormat, to_values
from flow.ir.graph import Softmax
from flow.progress import Announce
from flow.quantization.candidates import WeightCodes
from flow.quantization.driver import QuantizedModel, all_float_outputs, quantize, scores
from flow.quantization.search import Choice, Parameters
from flow.quantization.settings import QuantSettings
from flow.quantization.widths import Luts
from flow.runs import digest, digest_code, read_npz, write_npz

CIRCUITS = ("shift_constant", "dyadic16_constant", "float32_constant")
"""Ways to requantize that a report tells the cost of: ours, and two that need a multiplier."""
LARGEST_SUM, CODE_BITS = 32, 8
"""Widest accumulator of the table, and the width of codes that it has for every circuit."""
PART = 256
"""Samples that the float network runs at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """A float model, quantized.

    Attributes:
        model: graphs and record.
        document: `quantization` of a report's JSON.
        accuracy: what `accuracy` of the report says of the float and the quantized network; fractions, or None.
        heads: output -> what is measured -> the same two networks -> value.
    """

    model: QuantizedModel
    document: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    heads: Mapping[str, Mapping[str, Mapping[str, float]]]


def quantize_stage(
    trained: TrainedModel,
    calibration: Samples,
    samples: Samples | None,
    labels: Sequence[Labels],
    settings: QuantSettings,
    input_format: FixedFormat | None,
    softmax: FixedFormat | None,
    cache: Path,
    announce: Announce,
    luts: Luts | None = None,
) -> Quantization:
    """Quantize a float model, through a cache of what was chosen, and measure both networks on the samples of a build.

    Args:
        trained: the float model.
        calibration: samples to calibrate with; `settings` say how many of them are drawn.
        samples: inputs of the build, or None.
        labels: of each output that has some.
        settings: how.
        input_format: of the ports, or None to find it.
        softmax: of the outputs of a final softmax, or None to leave it off.
        cache: directory that the choices go to, module by module; an interrupted search goes on from them.
        announce: called with the progress.
        luts: the static estimate, for a budget of LUTs.

    Raises:
        FlowError: as of `flow.quantization.driver.quantize`.
    """
    drawn = draw(calibration.values, settings)
    code = digest_code("quantization")  # another version may choose otherwise
    key = digest(trained.digest(), settings.to_json(), str(input_format), _content(drawn), version("po2flow"), code)
    approximate = front_end(trained.frontend).approximate
    memory = _Memory(cache / f"quantize-{key[:16]}")
    with locked(memory.directory):  # a second process finds what the first one searched
        model = quantize(
            trained,
            drawn,
            settings,
            input_format=input_format,
            softmax=softmax,
            functions=approximate,
            luts=luts,
            memory=memory,
            progress=lambda done, of, name: announce(f"search: {name}", done, of),
        )
    announce("measure")
    measured = {} if samples is None else _measure(model, samples, labels, approximate)
    document = {
        **model.record,
        "calibration": {"samples": len(drawn), "of": len(calibration.values), "source": calibration.source},
        "costs": costs(model.record),
        "outputs": measured.get("errors"),
    }
    accuracy = {
        "float_at_training": trained.metrics.get("float"),
        "samples_at_training": trained.provenance.get("test_samples"),
        **measured.get("accuracy", {}),
    }
    return Quantization(model=model, document=document, accuracy=accuracy, heads=measured.get("heads", {}))


def draw(values: NDArray[Any], settings: QuantSettings) -> NDArray[np.float32]:
    """Return calibration samples, drawn by a seed: as many as the settings say, or all if there are fewer."""
    count = min(len(values), settings.calibration_samples)
    chosen = np.sort(np.random.default_rng(settings.seed).choice(len(values), count, replace=False))
    return np.ascontiguousarray(values[chosen], np.float32)


def costs(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what requantizing costs by each measured circuit: one op, and one inference by where it is quantized.

    Args:
        record: `counts` and `modules` of a report's `quantization`.
    """
    sums = [module["accumulator_bits"] for module in record["modules"] if module["accumulator_bits"] is not None]
    if not sums:
        return []
    table, entries = load_costs(), []
    for circuit in CIRCUITS:
        row = requantization_cost(circuit, min(max(sums), LARGEST_SUM), CODE_BITS)
        assert row.xcup is not None, f"{row.name} was not synthesized for an FPGA"
        entries.append(
            {
                "circuit": circuit,
                "acc_bits": row.acc_bits,
                "out_bits": row.out_bits,
                "area": row.area,
                "area_unit": table.area_unit,
                "energy": row.energy,
                "energy_unit": table.energy_unit,
                "lut": row.xcup.lut,
                "dsp": row.xcup.dsp,
                "per_inference": [
                    {"points": count["points"], "energy": row.energy * count["values_per_inference"]}
                    for count in record["counts"]
                ],
            }
        )
    return entries


def _measure(model: QuantizedModel, samples: Samples, labels: Sequence[Labels], functions: Evaluate) -> dict[str, Any]:
    """Return accuracies, errors and distances of the float and the quantized network on samples."""
    graph, values, floats = model.lowered, samples.values, model.floats
    parts = [all_float_outputs(floats, values[at : at + PART], functions) for at in range(0, len(values), PART)]
    exact = [np.concatenate([part[name] for part in parts]) for name in floats.outputs]
    ends = [scores(graph, name) for name in graph.outputs]
    kept = tuple(dict.fromkeys([*(op.name for op in ends), *graph.outputs]))
    codes = reference.run(graph, to_port(samples, graph).codes, keep=kept).codes
    quantized = [to_values(codes[op.name], op.format).reshape(x.shape) for op, x in zip(ends, exact, strict=True)]
    measured: dict[str, Any] = {"errors": _errors(exact[0], quantized[0], values), "heads": {}}
    for each in labels:
        output = graph[graph.outputs[each.index]]
        networks = {"float": exact[each.index], "quantized": quantized[each.index]}
        if isinstance(output, Softmax) and not each.are_classes:
            networks = {"float": _softmax(exact[each.index]), "quantized": to_values(codes[output.name], output.format)}
        limit = threshold(graph, output.name)
        found = {network: each.measure(result, limit) for network, result in networks.items()}
        of_each = {what: {network: found[network][what] for network in found} for what in found["float"]}
        measured["heads"][each.output] = of_each
        if each.index == 0 and each.are_classes:
            measured["accuracy"] = {**of_each[ACCURACY], "samples": len(each.values)}
    return measured


def _softmax(values: NDArray[Any]) -> NDArray[Any]:
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _errors(exact: NDArray[Any], quantized: NDArray[Any], values: NDArray[Any]) -> dict[str, float | int | None]:
    """Return how far the quantized outputs are from the float ones, and both from the inputs where sizes agree."""
    energy = float(np.square(exact, dtype=np.float64).sum())
    errors: dict[str, float | int | None] = {
        "samples": len(exact),
        "relative_error": float(np.square(quantized - exact).sum()) / energy if energy else None,
        "float_reconstruction_mse": None,
        "quantized_reconstruction_mse": None,
    }
    if exact.size == values.size:
        goal = values.reshape(exact.shape)
        errors["float_reconstruction_mse"] = float(np.square(exact - goal).mean())
        errors["quantized_reconstruction_mse"] = float(np.square(quantized - goal).mean())
    return errors


@dataclass(frozen=True, slots=True)
class _Memory:
    """What was chosen, one file per module: a search that was interrupted goes on from there."""

    directory: Path

    def recall(self, name: str) -> Choice | None:
        try:
            arrays = read_npz(self.directory / f"{name}.npz")
            facts = json.loads(str(arrays.pop("facts")))
            parameters: dict[str, Parameters] = {}
            for op in facts["ops"]:
                weight = WeightCodes(codes=arrays[f"{op}/codes"], frac_bits=arrays[f"{op}/frac_bits"])
                parameters[op] = Parameters(
                    weight=weight, bias=arrays[f"{op}/bias"], bias_frac_bits=facts["bias_frac_bits"][op]
                )
            return Choice(
                parameters=parameters,
                format=FixedFormat.from_json(facts["format"]),
                error=facts["error"],
                tried=facts["tried"],
            )
        except (InputError, KeyError, ValueError):  # not there yet, or damaged: it is searched again
            return None

    def keep(self, name: str, choice: Choice) -> None:
        arrays: dict[str, NDArray[Any]] = {}
        for op, held in choice.parameters.items():
            arrays[f"{op}/codes"], arrays[f"{op}/frac_bits"] = held.weight.codes, held.weight.frac_bits
            arrays[f"{op}/bias"] = held.bias
        facts = {
            "ops": list(choice.parameters),
            "bias_frac_bits": {op: held.bias_frac_bits for op, held in choice.parameters.items()},
            "format": choice.format.to_json(),
            "error": choice.error,
            "tried": choice.tried,
        }
        write_npz(self.directory / f"{name}.npz", {"facts": np.array(json.dumps(facts)), **arrays}, compress=True)


def _content(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
