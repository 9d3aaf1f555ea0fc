"""Words that the forms of the report share: text, Markdown and page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from flow.cost.calibration import Beside
from flow.errors import counted
from flow.project import Change
from flow.report.record import Report
from flow.report.since import as_built
from flow.verification.levels import is_software

COUNTS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram_18k": "BRAM 18k", "uram": "URAM"}
"""Field of a resource entry that counts something of the part -> heading."""
COLUMNS = {**COUNTS, "latency_cycles": "latency, cycles", "initiation_interval_cycles": "interval, cycles"}
"""Field of a resource entry -> heading on a page."""
SCOPES = {
    "proved": ("proved for all inputs", "proved for all inputs"),
    "exhaustive": ("run on all inputs", "run on every possible input"),
    "tested": ("tested on the inputs of this run", "tested"),
}
"""Scope of a proof -> words in a text, and on the page, where the inputs of the run stand beside them."""
ALTERNATIVES = {"int8": "with 8-bit multipliers", "float32": "in float32"}
"""Other arithmetic for the same sums -> words."""
ACCURACIES = {
    "QKeras": (("float", "qkeras_at_training", None, "samples_at_training"), (None, "qkeras", "hardware", "samples")),
    "quantized": (
        ("float_at_training", None, None, "samples_at_training"),
        ("float", "quantized", "hardware", "samples"),
    ),
}
"""Software model -> fields of `accuracy` at training, and in this run; None where nothing is measured."""
MEASURES = {
    "accuracy": "accuracy",
    "mean_absolute_error": "mean absolute error",
    "mean_squared_error": "mean squared error",
}
"""What is measured of an output -> words; an output has an accuracy or errors."""
SOURCES = {
    "static_csynth": "static estimate of C synthesis",
    "static": "static estimate",
    "csynth": "C synthesis",
    "yosys": "Yosys",
    "nextpnr": "nextpnr",
    "vivado": "Vivado",
    "quartus": "Quartus",
    "rtlsim": "RTL simulation",
}
"""Source -> words; the nearer to the chip, the later. A source that is not here goes by its own name."""

MOST_DIFFERENCES = 20
"""Differences of files that are printed."""


def settings(project: Mapping[str, Any]) -> list[Any]:
    """Return the settings of a project in words, as in ["Vitis", "io_stream", "Latency", "reuse factor 4", ...]."""
    set_aside = project.get("clock_uncertainty")  # not in reports of old runs
    own = [f"{op} {factor}" for op, factor in project["reuse_factors"].items()]
    return [
        project["backend"],
        project["io_type"],
        project["strategy"],
        f"reuse factor {', '.join([str(project['reuse_factor']), *own])}",
        project["part"],
        f"{project['clock_period_ns']:g} ns" + (f" less {100 * set_aside:g} % uncertainty" if set_aside else ""),
        *(["as built: its files changed since"] if project.get("changes") else []),
    ]


def verdict_line(report: Report) -> str:
    """Return the verdict in one line, with its scope."""
    return ": ".join(verdict_words(report))


def verdict_words(report: Report) -> tuple[str, str]:
    """Return the verdict and its scope."""
    since = since_words(report.document)
    return ("DIFFERENT", "; ".join(since)) if since else _compared_words(report)


def before_line(report: Report) -> str:
    """Return the verdict before anything came to light since."""
    return f"before that: {': '.join(_compared_words(as_built(report)))}"


def _compared_words(report: Report) -> tuple[str, str]:
    verdict = report.document["verdict"]
    if report.bit_exact is None and not verdict["not_simulated"]:
        return "NOT COMPARED", "the build stopped before simulation"
    scope = _scope(verdict)
    levels = " = ".join(
        f"{level} ({verdict['arithmetic'][level]})" if is_software(level) else level for level in verdict["compared"]
    )
    if report.bit_exact is None:
        return "NOT SIMULATED", f"{verdict['not_simulated']}; computed by {levels}, {scope}"
    if report.bit_exact:
        layers = "every layer but the softmax" if report.document.get("softmax") else "every layer"
        rounded = report.document.get("approximation")
        own = "" if not rounded else f"; {approximation_words(rounded)}"
        return "BIT EXACT", f"{levels}, {layers}, {scope}{own}"
    return "DIFFERENT", "; ".join(_difference_words(report.document, scope))


def since_words(document: Mapping[str, Any]) -> list[str]:
    """Return what came to light since the comparison of a report; nothing if its project is still the same."""
    verdict, changes = document["verdict"], document["project"].get("changes", [])
    known = [change for change in changes if _change_words(change) in verdict["file_differences"]]
    times = [entry["at"] for entry in verdict.get("found_since", ())]
    often = f"{len(times)} differences, the last" if len(times) > 1 else "a difference"
    later = [f"flow compare found {often} at {times[-1]}"] if times else []
    return [*([_files_words(len(changes))] if len(known) < len(changes) else []), *later]


def found_line(entry: Mapping[str, Any]) -> str:
    """Return an entry of `verdict.found_since` in one line."""
    first = entry["verdict"]["first_divergence"]
    found = _difference_words(entry, f"{_scope(entry['verdict'])} ({entry['inputs']})")
    found += [f"first at {divergence_place(first)}: {divergence_codes(first)}"] if first else []
    return f"flow compare at {entry['at']}: {'; '.join(found)}"


def differences(document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong of the project's files and streams, a line each, at most `MOST_DIFFERENCES`."""
    verdict = document["verdict"]
    lines = [_change_words(change) for change in document["project"].get("changes", ())]
    lines += verdict["file_differences"]
    lines += [line for entry in verdict.get("found_since", ()) for line in entry["verdict"]["file_differences"]]
    lines = list(dict.fromkeys(lines))
    more = len(lines) - MOST_DIFFERENCES
    return lines if more <= 0 else [*lines[:MOST_DIFFERENCES], f"and {more} more, in the JSON form of this report"]


def _scope(verdict: Mapping[str, Any]) -> str:
    inputs, adversarial = (
        counted(verdict["samples"], "input"),
        counted(verdict["adversarial_samples"], "adversarial input"),
    )
    return f"over {inputs} and {adversarial}"


def _difference_words(document: Mapping[str, Any], scope: str) -> list[str]:
    """Return what a comparison found: files that changed, what else is wrong of them, and outputs."""
    verdict, changes = document["verdict"], document["project"].get("changes", ())
    findings = len(verdict["file_differences"])
    words = [_files_words(len(changes))] if changes else []
    if findings and not changes:
        words = [f"{counted(findings, 'thing is', 'things are')} wrong in the project's files or streams"]
    compared = ", ".join(verdict["compared"])
    if verdict["mismatches"] is None:
        return [*words, f"only {compared} was run, so no outputs were compared"]
    count = verdict["mismatches"]
    elements = f"{count or 'no'} output {'elements differ' if count > 1 else 'element differs'}"
    return [*words, f"{elements} between {compared}, {scope}"]


def _files_words(count: int) -> str:
    return f"{counted(count, 'file')} of the project changed since the build wrote it"


def _change_words(change: Mapping[str, Any]) -> str:
    return str(Change(**change))


def divergence_place(first: Mapping[str, Any]) -> str:
    """Return where levels first part, for example "op 'dense1', element (4,)"."""
    return f"op '{first['op']}', element {tuple(first['index'])}"


def divergence_codes(first: Mapping[str, Any]) -> str:
    """Return what each level says where they first part, for example "reference 5, csim 6"."""
    return ", ".join(f"{level} {code}" for level, code in zip(first["levels"], first["codes"], strict=True))


def reproduction(document: Mapping[str, Any]) -> str:
    """Return the command that runs the counterexample alone."""
    run_dir, levels = document["run_dir"], document["verdict"]["first_divergence"]["levels"]
    counterexample = f"{run_dir}/counterexample.npz"
    return shlex.join(["flow", "compare", run_dir, "--levels", *levels, "--inputs", counterexample])


def softmax_line(entry: Mapping[str, Any]) -> str:
    """Return an entry of `softmax` in one line."""
    return (
        f"softmax '{entry['op']}': an integer function, at most {entry['largest_difference']:.2g} from QKeras' float "
        f"result; same largest class (the first, where codes tie) in {entry['same_argmax']} of {entry['compared']}"
    )


def approximation_words(entry: Mapping[str, Any]) -> str:
    """Return what `approximation` says in words: that it is another function than the model, and how far from it."""
    layers, outputs = entry["layers"], entry["outputs"]
    more = f" and {len(layers) - 2} more" if len(layers) > 2 else ""
    rounded = f"{', '.join(layers[:2])}{more} {'was' if len(layers) == 1 else 'were'} rounded on request"
    words = f"not exact with {entry['software']}, because {rounded}"
    far = [f"{each['largest_difference']:.3g} ({each['mean_difference']:.2g} in the mean)" for each in outputs]
    return f"{words}: outputs are at most {', '.join(far)} apart on {entry['samples']} inputs" if far else words


def accuracies(document: Mapping[str, Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the name of the software model, then what `accuracy` holds at training and in this run.

    Both lists hold the accuracies of the float model, the software model and the hardware, and the number of samples.
    Those of this run are None where heads say it, each by its name.
    """
    name = "quantized" if document.get("quantization") else "QKeras"
    known = document["accuracy"]
    of_run = {} if document.get("heads") else known
    at_training, here = ACCURACIES[name]
    return name, [key and known[key] for key in at_training], [key and of_run.get(key) for key in here]


def measures(document: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return what was measured of heads: (output, field of it) -> network -> value."""
    return {
        (head["output"], what): head[what]
        for head in document.get("heads") or ()
        for what in MEASURES
        if head[what] is not None
    }


def head_rows(document: Mapping[str, Any]) -> tuple[list[str], list[list[str | None]]]:
    """Return a header and a row for each measure of each head; None where a network was not measured."""
    software, *_ = accuracies(document)
    networks = ("float", software.lower(), "hardware")
    samples = {head["output"]: f"{head['samples']:,}" for head in document.get("heads") or ()}
    rows = [
        [output, MEASURES[what], *(measure_words(what, values[name]) for name in networks), samples[output]]
        for (output, what), values in measures(document).items()
    ]
    return ["output", "measure", "float", software, "hardware", "samples"], rows


def measure_words(what: str, value: float | None) -> str | None:
    """Return an accuracy in percent, or an error."""
    if value is None:
        return None
    return f"{100 * value:.2f} %" if what == "accuracy" else f"{value:.4g}"


def shape_words(layer: Mapping[str, Any]) -> str:
    """Return a shape, for example "28 x 28 x 1"."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, layer["shape"]))


def does(layer: Mapping[str, Any]) -> str:
    """Return what an op does, in order, for example "dense + relu + requantize"."""
    return " + ".join(layer["fused"]) or str(layer["op"])


def steps_words(layer: Mapping[str, Any]) -> str:
    """Return how many steps a function of an op has, for example "6 to 7 steps in each of 64 channels", or nothing."""
    steps = layer.get("steps")  # not in reports of old runs
    if not steps:
        return ""
    count = counted(steps["most"], "step")
    if steps["least"] < steps["most"]:
        count = f"{steps['least']} to {count}"
    return count if steps["functions"] == 1 else f"{count} in each of {steps['functions']} channels"


def format_words(fmt: Mapping[str, Any]) -> str:
    """Return a format of the report as `--input-format` takes it, for example "ufixed<4,1>"."""
    width = fmt["signed"] + fmt["int_bits"] + fmt["frac_bits"]
    return f"{'' if fmt['signed'] else 'u'}fixed<{width},{fmt['signed'] + fmt['int_bits']}>"


def output_words(layer: Mapping[str, Any]) -> str:
    """Return the format of an op's output, for example "fixed<9,4>", and over what its values are."""
    over = layer.get("denominator", 1)
    return format_words(layer["output_format"]) + ("" if over == 1 else f" / {over}")


def source_words(entry: Mapping[str, Any] | None) -> str:
    """Return the source of an entry in words, or nothing if there is no entry."""
    source = "" if entry is None else str(entry["source"])
    return SOURCES.get(source, source)


def source_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what two figures must have in common to stand in one row or plot: source, tool, family or unit."""
    return tuple(str(entry.get(key) or "") for key in ("source", "tool", "family", "unit", "table"))


def nearest(document: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return the entry of `resources` nearest to the chip that knows `key`; None if none does."""
    order = list(SOURCES)
    known = [entry for entry in document["resources"] if entry[key] is not None]
    return max(known, key=lambda entry: order.index(entry["source"]) if entry["source"] in order else -1, default=None)


def interval_of(entry: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """Return between which counts the true one of an estimate lies; None if nothing says so."""
    stated = (entry.get("intervals") or {}).get(key)
    return None if not stated or stated["low"] is None else (stated["low"], stated["high"])


def interval_line(entry: Mapping[str, Any], key: str) -> str | None:
    """Return where the true count of an estimate lies and what says so; None of what is no such estimate."""
    stated = (entry.get("intervals") or {}).get(key)
    if not stated:
        return None
    ends = interval_of(entry, key)
    return stated["basis"] if ends is None else f"{ends[0]:,} to {ends[1]:,}: {stated['basis']}"


def share_words(entry: Mapping[str, Any], key: str) -> str | None:
    """Return which part of the part's resources a design takes, as in "9.3 % (8.1 to 10.9 %)"; None if unknown."""
    has, count, ends = entry["capacity"].get(key), entry[key], interval_of(entry, key)
    if not has or count is None:
        return None
    share = f"{100 * count / has:.1f} %"
    return share if ends is None else f"{share} ({100 * ends[0] / has:.1f} to {100 * ends[1] / has:.1f} %)"


def lut_line(document: Mapping[str, Any]) -> str | None:
    """Return the LUTs of a design in one line: of the part, between which counts, and who says so."""
    entry = nearest(document, "lut")
    if entry is None:
        return None
    share = share_words(entry, "lut")
    of_part = f"{share} of {entry['part']}, " if share else ""
    return f"LUT: {of_part}{entry['lut']:,} by {'; '.join(said_by(entry, 'lut'))}"


def said_by(entry: Mapping[str, Any], key: str) -> list[str]:
    """Return the source of a number, and how far it may be off."""
    return [said for said in (source_words(entry), error_of(entry, key)) if said]


def calibration_line(entry: Mapping[str, Any]) -> str | None:
    """Return which factors of the user's own scaled an estimate; None if none did."""
    used = entry.get("calibration")
    if not used:
        return None
    factors = ", ".join(f"{COUNTS[key]} {factor:g}" for key, factor in used["factors"].items())
    return f"scaled by {used['file']}, learned from {counted(used['runs'], 'run')}: {factors}"


def beside_rows(found: Beside) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row per op with what was estimated, what was measured, and how far the estimate is off."""
    header, rows = ["op"], [[pair.name] for pair in found.pairs]
    for key, name in COUNTS.items():
        if all(pair.measured.get(key) is None or pair.estimated.get(key) is None for pair in found.pairs):
            continue
        header += [f"{name} predicted", "measured", "off"]
        for row, pair in zip(rows, found.pairs, strict=True):
            ours, true = pair.estimated[key], pair.measured[key]
            off = "-" if ours is None or not true else f"{100 * (ours / true - 1):+.0f} %"
            row += ["-" if count is None else f"{count:,}" for count in (ours, true)] + [off]
    return header, rows


def beside_words(found: Beside) -> str:
    """Return what stands beside what."""
    return f"{source_words(found.estimate)} beside {source_words(found.measured)}"


def path_line(entry: Mapping[str, Any]) -> str | None:
    """Return the longest path of an estimate in one line; None if it does not say."""
    path = entry.get("critical_path")
    if not path:
        return None
    late = path["delay_ns"] - entry["clock_period_ns"]
    held = (
        f"{late:.1f} ns more than the clock asked for" if late > 0 else f"of {entry['clock_period_ns']:g} ns asked for"
    )
    return (
        f"longest path: op '{path['op']}', {' > '.join(path['nodes'])}: {path['delay_ns']:.1f} ns by the model, {held}"
    )


def error_of(entry: Mapping[str, Any], key: str) -> str | None:
    """Return how far a number of an entry may be off, in short; None of what is no estimate of ours."""
    if line := interval_line(entry, key):
        return line
    if not str(entry["source"]).startswith("static"):
        return None
    error = (entry.get("error") or {}).get(key)
    return (
        f"off by {error['mean']:g} % in the mean, {error['worst']:g} % at worst" if error else "its error is not known"
    )


def error_words(error: Mapping[str, Any]) -> str:
    """Return how far an estimate is off, as words."""
    lut, ff = (
        f"{name.upper()} by {error[name]['mean']:g} % in the mean, {error[name]['worst']:g} % at worst"
        for name in ("lut", "ff")
    )
    return f"off on {error['lut']['modules']} random modules ({error['against']}): {lut}; {ff}"
