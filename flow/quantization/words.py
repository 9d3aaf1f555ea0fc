"""Words for `quantization` of a report: how a float model was quantized and what it costs, in lines and rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.errors import counted
from flow.quantization.settings import PO2_BITS

POINTS_WORDS = {
    "op": "after every op",
    "folded": "batch norm folded",
    "unified": "unified modules",
    "this_run": "as built",
}
"""Where a network is quantized -> words."""


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """Return how a model was quantized and what it costs, line by line."""
    settings, calibration = record["settings"], record["calibration"]
    lines = [
        f"{how(settings)}; {calibration['samples']} calibration samples ({calibration['source']})",
        "quantization ops per inference: "
        + ", ".join(f"{entry['ops']:,} {POINTS_WORDS[entry['points']]}" for entry in record["counts"])
        + "; values: "
        + ", ".join(f"{entry['values_per_inference']:,}" for entry in record["counts"]),
    ]
    lines += [cost_line(entry) for entry in record["costs"]]
    outputs = record["outputs"]
    if outputs is not None:
        lines.append(output_line(outputs))
    return lines


def how(settings: Mapping[str, Any]) -> str:
    """Return the settings in one line."""
    if settings["budget_bits"] is not None:
        widths = f"widths per module for {settings['budget_bits']:g} bits in the mean"
    elif settings["budget_lut"] is not None:
        widths = f"widths per module for {settings['budget_lut']:,} LUTs"
    else:
        usual = PO2_BITS if settings["weights"] == "po2" else settings["bits"]
        widths = f"{settings['bits']}-bit activations, {settings['weight_bits'] or usual}-bit weights"
    switches = [
        settings["rounding"],
        f"{settings['choose']} choice",
        "fraction bits per channel" if settings["per_channel"] else "fraction bits per tensor",
        *(["weights equalized"] if settings["equalize"] else []),
        *(["biases corrected"] if settings["bias_correction"] else []),
        *(["weights rounded by reconstruction"] if settings["weight_rounding"] == "reconstruct" else []),
        *(["two sweeps"] if settings["sweeps"] == 2 else []),
        *([f"points '{settings['points']}'"] if settings["points"] != "unified" else []),
    ]
    kind = "powers of two and zero" if settings["weights"] == "po2" else "integers"
    return f"{widths} ({kind}); {', '.join(switches)}"


def cost_line(cost: Mapping[str, Any]) -> str:
    """Return what requantizing by one circuit costs, in one line."""
    per_inference = ", ".join(
        f"{POINTS_WORDS[entry['points']]} {energy_words(cost, entry)}" for entry in cost["per_inference"]
    )
    return (
        f"requantizer {circuit_words(cost)}: {cost['area']:,.0f} {cost['area_unit']}, {cost['lut']:,} LUT and "
        f"{cost['dsp']} DSP each; energy per inference: {per_inference}"
    )


def circuit_words(cost: Mapping[str, Any]) -> str:
    """Return the name of a circuit and its widths."""
    return f"{cost['circuit'].replace('_', ', ')} ({cost['acc_bits']} to {cost['out_bits']} bits)"


def energy_words(cost: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Return an energy per inference with its unit; femtojoules in a larger one."""
    if cost["energy_unit"] == "fJ":
        return f"{entry['energy'] / 1e6:,.3g} nJ"
    return f"{entry['energy']:,.3g} {cost['energy_unit']}"


def cost_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row per circuit: what it costs, once and per inference."""
    points = [POINTS_WORDS[entry["points"]] for entry in record["counts"]]
    header = ["requantizer", "area", "LUT", "DSP", *(f"energy, {words}" for words in points)]
    rows = [
        [
            circuit_words(cost),
            f"{cost['area']:,.0f} {cost['area_unit']}",
            f"{cost['lut']:,}",
            str(cost["dsp"]),
            *(energy_words(cost, entry) for entry in cost["per_inference"]),
        ]
        for cost in record["costs"]
    ]
    return header, rows


def output_line(outputs: Mapping[str, Any]) -> str:
    """Return how far the outputs are from the float network's, in one line."""
    error = outputs["relative_error"]
    line = f"outputs over {counted(outputs['samples'], 'input')}: squared error " + (
        "not defined (all float outputs are zero)" if error is None else f"{error:.2g} of the squared float outputs"
    )
    if outputs["float_reconstruction_mse"] is not None:
        line += (
            f"; mean squared error to the inputs {outputs['float_reconstruction_mse']:.5f} in float, "
            f"{outputs['quantized_reconstruction_mse']:.5f} quantized"
        )
    return line


def module_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row per module: what was chosen for it."""
    header = ["module", "does", "output", "frac bits", "acc bits", "weights", "their frac bits", "bias", "error"]
    return header, [_row(module) for module in record["modules"]]


def _row(module: Mapping[str, Any]) -> list[str]:
    parameters = module["parameters"]
    weights = "-" if module["weight_bits"] is None else f"{module['weight_bits']} bit {module['weights']}"
    return [
        module["name"],
        " + ".join(module["does"]),
        f"{'' if module['signed'] else 'u'}{module['bits']}",
        str(module["frac_bits"]),
        str(module["accumulator_bits"] or "-"),
        weights,
        ", ".join(_span(*parameter["weight_frac_bits"]) for parameter in parameters) or "-",
        ", ".join(str(parameter["bias_frac_bits"]) for parameter in parameters) or "-",
        f"{module['relative_error']:.1e}",
    ]


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}..{high}"
