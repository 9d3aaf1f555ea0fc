"""Reports made by hand: one with every field, one of a build that stopped, one with a divergence; one of any graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph
from flow.report.assemble import assemble
from flow.report.record import Report
from flow.target import Target

Document = dict[str, Any]


def of_graph(graph: IntGraph) -> Report:
    """Return the report of a graph that nothing was made of."""
    return assemble(
        trained=TrainedModel(name=graph.name, class_name="Functional", config={}, weights={}),
        graph=graph,
        target=Target(),
        run_dir=Path("run"),
        project_digest=None,
        comparison=None,
        resources=[],
        energy=[],
        notes=[],
        commands=[],
        versions={},
        timings_s={},
    )


def fmt(signed: bool, int_bits: int, frac_bits: int) -> Document:
    return {"signed": signed, "int_bits": int_bits, "frac_bits": frac_bits}


def op(name: str, kind: str, inputs: list[str], shape: list[int], **more: Any) -> Document:
    """Return an entry of `layers`."""
    return {
        "name": name,
        "op": kind,
        "inputs": inputs,
        "layers": [name],
        "fused": [kind, "requantize"],
        "shape": shape,
        "output_format": fmt(False, 1, 3),
        "rounding": "AP_RND_CONV",
        "overflow": "AP_SAT",
        "accumulator_bits": None,
        "accumulator_range": None,
        "weights": 0,
        "sparsity": None,
        "mismatches": 0,
        "proof": None,
        **more,
    }


def weighted(name: str, kind: str, inputs: list[str], shape: list[int], **more: Any) -> Document:
    """Return an entry of `layers` with weights."""
    own: Document = {
        "accumulator_bits": 11,
        "accumulator_range": [-713, 688],
        "weights": 3072,
        "sparsity": 0.82,
        "weight_format": fmt(True, 2, 2),
        "power_of_two_weights": True,
        "exponents": {"-2": 120, "-1": 210, "0": 160, "1": 63},
        "fused": [kind, "batchnorm", "relu", "requantize"],
    }
    return op(name, kind, inputs, shape, **{**own, **more})


def layers() -> list[Document]:
    """Return a network with branches, a skipping wire and two inputs."""
    proved = {"scope": "proved", "inputs": None, "engine": "bitwuzla 0.9.1", "seconds": 4.17, "overflow": "none"}
    exhaustive = {"scope": "exhaustive", "inputs": 65536, "engine": "rtlsim", "seconds": 0.8, "overflow": None}
    tested = {"scope": "tested", "inputs": 2408, "engine": "rtlsim", "seconds": None, "overflow": None}
    return [
        op("image", "input", [], [28, 28, 1], fused=["input"]),
        weighted("conv1", "conv", ["image"], [28, 28, 8], proof=proved),
        weighted(
            "left", "conv", ["conv1"], [28, 28, 8], proof=tested, accumulator_bits=13, accumulator_range=[0, 6001]
        ),
        weighted("right", "conv", ["conv1"], [28, 28, 8], exponents={"-14": 3, "2": 9}, power_of_two_weights=False),
        op("table", "lookup", ["right"], [28, 28, 8], fused=["quantized_tanh"], proof=exhaustive),
        op("add", "merge", ["left", "table", "conv1"], [28, 28, 8], output_format=fmt(True, -2, 7)),
        op("extra", "input", [], [4], fused=["input"], output_format=fmt(True, 12, 20)),
        op("pool", "sumpool", ["add"], [8]),
        op("joined", "gather", ["pool", "extra"], [12], fused=["concatenate"]),
        weighted("logits", "dense", ["joined"], [10], output_format=fmt(True, 6, -1), proof=tested),
    ]


def resources() -> list[Document]:
    """Return entries of `resources` by an estimate, Yosys, nextpnr and a simulation that only measured time."""
    names = ("conv1", "left", "right", "table", "logits")
    none = dict.fromkeys(("lut", "ff", "dsp", "bram_18k", "uram", "latency_cycles", "initiation_interval_cycles"))
    base = {
        "part": "xc7a35tcpg236-1",
        "clock_period_ns": 5.0,
        "estimated_clock_period_ns": None,
        "capacity": {},
        **none,
    }
    has = {"lut": 20800, "ff": 41600, "dsp": 90, "bram_18k": 100, "uram": 0}
    luts = (1271, 2210, 1987, 164, 809)
    each = [
        {**none, "name": name, "lut": lut, "ff": lut // 3, "latency_cycles": 2}
        for name, lut in zip(names, luts, strict=True)
    ]
    counted = [{**none, "name": name, "lut": lut - 90, "ff": lut // 4} for name, lut in zip(names, luts, strict=True)]
    return [
        {**base, "source": "static", "tool": "flow static model", "lut": 6341, "ff": 2113, "dsp": 0, "bram_18k": 0,
         "uram": 0, "latency_cycles": 10, "initiation_interval_cycles": 1, "capacity": has, "layers": each,
         "detail": {"adders": 955, "shifts": 957}},
        {**base, "source": "yosys", "tool": "Yosys 0.70", "lut": 5877, "ff": 1588, "capacity": has, "layers": counted,
         "detail": {"carry": 412}, "family": "xc7", "command": "synth_xilinx -family xc7 -top net; stat -json"},
        {**base, "source": "nextpnr", "tool": "nextpnr-ecp5 0.8", "part": "LFE5U-25F", "lut": 7020,
         "estimated_clock_period_ns": 7.31, "layers": []},
        {**base, "source": "rtlsim", "tool": "Verilator 5.040", "latency_cycles": 11, "initiation_interval_cycles": 1,
         "layers": [{**none, "name": name, "latency_cycles": 2} for name in names]},
    ]  # fmt: skip


def confusion(wrong: int) -> list[list[int]]:
    """Return a matrix of 10 classes with so many samples beside its diagonal."""
    rows = [[36 if i == j else 0 for j in range(10)] for i in range(10)]
    for k in range(wrong):
        rows[k % 10][(3 * k + 1) % 10] += 1
    return rows


def full() -> Document:
    """Return a report with every field, bit exact."""
    return {
        "schema": 1,
        "model": "two_ways",
        "run_dir": "hls_projects/two_ways/rtl/0661f65e433c",
        "verdict": {
            "bit_exact": True,
            "samples": 360,
            "adversarial_samples": 2048,
            "mismatches": 0,
            "compared": ["qkeras", "reference", "csim", "rtlsim"],
            "arithmetic": {"qkeras": "float32", "reference": "integer", "csim": "ap_fixed", "rtlsim": "verilog"},
            "first_divergence": None,
            "file_differences": [],
            "not_simulated": None,
        },
        "layers": layers(),
        "sparsity": 0.8058,
        "accuracy": {
            "float": 0.9833, "qkeras_at_training": 0.975, "samples_at_training": 360, "qkeras": 0.9722,
            "hardware": 0.9694, "samples": 359,
        },
        "confusion": {"classes": 10, "float": confusion(6), "qkeras": confusion(9), "hardware": confusion(9)},
        "softmax": [{"op": "softmax", "largest_difference": 0.0037, "same_argmax": 2445, "compared": 2446}],
        "inputs": {
            "format": fmt(False, 0, 4),
            "shape": [28, 28, 1],
            "ports": [
                {"name": "image", "format": fmt(False, 0, 4), "shape": [28, 28, 1]},
                {"name": "extra", "format": fmt(True, 12, 20), "shape": [4]},
            ],
            "source": "digits test set",
            "rounded_values": 17,
            "clipped_values": 2066,
        },
        "resources": resources(),
        "energy": [
            {"source": "static", "unit": "pJ", "per_inference": 1834.5, "table": "docs/energy.md",
             "layers": [{"name": "conv1", "per_inference": 1200.25}, {"name": "logits", "per_inference": 634.25}],
             "alternatives": {"int8": 9000.0, "float32": 71000.0}, "detail": {"adder_bits": 6218}},
            {"source": "rtlsim", "unit": "toggles", "per_inference": 40213, "table": "docs/energy.md", "layers": []},
        ],
        "project": {
            "backend": "rtl", "io_type": "io_parallel", "strategy": "Latency", "reuse_factor": 1,
            "reuse_factors": {"conv1": 3}, "part": "xc7a35tcpg236-1", "clock_period_ns": 5.0,
            "path": "hls_projects/two_ways/rtl/0661f65e433c/project", "digest": "38658cbecf1b064a7b5d78511fa599cd",
        },
        "notes": ["op 'right': 41 pruned weights came back as non-zeros"],
        "provenance": {
            "dataset": "digits", "epochs": 61, "seed": 7, "test_samples": 360, "train_samples": 1437,
            "versions": {"numpy": "2.4.6", "qkeras": "0.9.0"},
            "commands": ["flow train two_ways", "flow build two_ways --backend rtl"],
        },
        "timings_s": {"extract": 1.6556, "emit": 0.6674, "csim_compile": 6.7039, "compare": 0.0008},
    }  # fmt: skip


def different() -> Document:
    """Return a report of a build whose simulation differs."""
    document = full()
    document["verdict"] |= {
        "bit_exact": False,
        "mismatches": 530,
        "compared": ["qkeras", "reference", "csim"],
        "first_divergence": {
            "op": "left",
            "levels": ["reference", "csim"],
            "sample": 1462,
            "index": [3, 5, 22],
            "codes": [0, 2],
            "cause": "weight (0, 22) of -2 instead of -4 gives exactly the observed codes of 2408 inputs",
            "nonzero_inputs": 2,
        },
        "file_differences": ["op 'left': weight (0, 22) in w3.h is code -2, the graph says code -4"],
    }
    del document["verdict"]["arithmetic"]["rtlsim"]
    document["layers"][2]["mismatches"] = 530
    return document


def stopped() -> Document:
    """Return a report of a build that stopped before simulation, by a back end without an estimate."""
    document = full()
    document["verdict"] = {
        "bit_exact": None, "samples": 0, "adversarial_samples": 0, "mismatches": 0, "compared": [], "arithmetic": {},
        "first_divergence": None, "file_differences": [], "not_simulated": None,
    }  # fmt: skip
    document["layers"] = [
        {key: value for key, value in layer.items() if key not in ("proof", "exponents")} for layer in layers()
    ]
    document["accuracy"] |= {"float": None, "qkeras_at_training": None, "qkeras": None, "hardware": None, "samples": 0}
    document["inputs"] = {key: document["inputs"][key] for key in ("format", "shape", "ports")}
    document["project"]["digest"] = None
    return document | {"confusion": None, "energy": [], "resources": [], "softmax": [], "notes": [], "timings_s": {}}


def headed() -> Document:
    """Return a report of a model with two heads, one of classes and one of targets."""
    document = full()
    known = {"float": None, "quantized": None, "qkeras": 0.9722, "hardware": 0.9694}
    none = {"accuracy": None, "mean_absolute_error": None, "mean_squared_error": None, "confusion": None}
    counted = {"classes": 10, "qkeras": confusion(9), "hardware": confusion(9)}
    document["heads"] = [
        {"output": "digit", "op": "logits", "labels": "classes", "samples": 359, **none, "accuracy": known}
        | {"confusion": counted},
        {"output": "angle", "op": "left", "labels": "targets", "samples": 359, **none}
        | {"mean_absolute_error": {**known, "hardware": 0.04321}, "mean_squared_error": {**known, "hardware": 0.00257}},
    ]
    return document


def variant(**changes: Any) -> Report:
    """Return the full report with other numbers: `hardware` and, by source, LUTs."""
    document = full()
    document["accuracy"]["hardware"] = changes.pop("hardware")
    document["resources"] = [
        {**entry, "lut": changes[entry["source"]]} for entry in document["resources"] if entry["source"] in changes
    ]
    return Report(document)
