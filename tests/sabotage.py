"""Sabotage: a victim, and one thing changed in its project's text that reading the project finds, at the right op.

Changes that no reading of ours looks at stand in `sabotage_of_files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import zoo
from edits import edit
from nets import Net, s, u

from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project
from flow.target import Target

DEFINES, PARAMETERS, TOP = "firmware/defines.h", "firmware/parameters.h", "firmware/victim.cpp"
CONV, DENSE, LAST, POOL, NORM = "conv_1", "dense_7", "dense_10", "maxpool_4", "batchnorm_5"


def victim() -> IntGraph:
    """Return a graph with every computing op; `dense_10` has weights that are no powers of two."""
    net = (
        Net((4, 4, 2), s(4), "victim").conv(zoo.po2(3, 3, 2, 3), [2, -3, 1], padding="same").relu().requantize(u(4, -2))
    )
    net.pool((2, 2)).batchnorm([3, -1, 2], [5, 7, -6], frac=1).flatten().dense(-zoo.po2(12, 4), [1, -2, 4, 3])
    return lower(
        net.relu()
        .requantize(s(9, -3))
        .dense([[7, -5, 3], [-6, 4, -7], [5, -7, -2], [-3, 6, 1]], [4, 8, 0], frac=2)
        .requantize(s(8, -2), Rounding.RND, Overflow.SAT_SYM)
        .graph()
    )


HLS = ("Vitis", "Vivado")
TARGETS = [Target(), Target(io_type="io_stream", strategy="Resource", backend="Vivado")]


def call_of(project: Project, op: str) -> tuple[list[str], list[str]]:
    """Return types and arguments of an op's call."""
    match = re.search(rf"nnet::\w+<([^;]*?)>\(([^;]*?)\); // {op}\n", project.text(TOP))
    assert match is not None
    return [part.strip() for part in match.group(1).split(",")], [part.strip() for part in match.group(2).split(",")]


def in_type(project: Project, name: str, old: str, new: str | Callable[[re.Match[str]], str]) -> Project:
    """Change the typedef `name`."""
    return edit(project, DEFINES, rf"(?<=typedef )[^;\n]*(?= {name};)", lambda m: re.sub(old, new, m.group(), count=1))


def narrower(match: re.Match[str]) -> str:
    return f"<{int(match.group(1)) - 1},{int(match.group(2)) - 1}"


def number(project: Project, op: str, argument: int, position: int, forms: tuple[str, ...]) -> Project:
    """Add 1, or 1/2 if it has a fraction, to one number of a weight or bias file."""
    variable = call_of(project, op)[1][argument]
    for form in forms:
        path = f"firmware/weights/{variable}.{form}"
        text = project.text(path)
        start, end = re.search(r"= \{(.*?)\};" if form == "h" else r"(?s)(.*)", text).span(1)  # type: ignore[union-attr]
        numbers = text[start:end].split(",")
        numbers[position] = " " + repr(float(numbers[position]) + (1 if "." not in numbers[position] else 0.5))
        project = Project(
            project.name, {**project.files, path: (text[:start] + ",".join(numbers) + text[end:]).encode()}
        )
    return project


@dataclass(frozen=True)
class Sabotage:
    """One thing changed in a project.

    Attributes:
        op: whose text it is; empty if it is of no single op.
        act: makes the change.
        found: how a finding of the reading names it; empty if none does.
        cause: what csim's difference is explained by, if it is.
        places: in which projects (`sabotage_of_files.PLACES`).
    """

    op: str
    act: Callable[[Project], Project]
    found: str = ""
    cause: str | None = None
    places: tuple[str, ...] = HLS


def in_config(project: Project, op: str, old: str, new: str) -> Project:
    """Change the configuration of an op's call, or the tables behind it."""
    config = next(name for name in call_of(project, op)[0] if name.startswith("config"))
    pattern = rf"struct {config} [^\n]*\{{\n.*?\n\}};\n(const [^;]*;\n)*"

    def changed(match: re.Match[str]) -> str:
        text, count = re.subn(old, new, match.group())
        assert count == 1, f"{old!r} stands {count} times in {config}"
        return text

    text = re.sub(pattern, changed, project.text(PARAMETERS), flags=re.DOTALL)
    return Project(project.name, {**project.files, PARAMETERS: text.encode()})


def result_type(op: str, old: str, new: str | Callable[[re.Match[str]], str]) -> Callable[[Project], Project]:
    return lambda project: in_type(project, call_of(project, op)[0][1], old, new)


SABOTAGE: dict[str, Sabotage] = {
    "weight in both": Sabotage(
        CONV, lambda p: number(p, CONV, 2, 7, ("txt", "h")), "weight (", "weight (0, 1, 0, 1) of 1 instead of 0 gives"
    ),
    "weight for simulation": Sabotage(
        DENSE, lambda p: number(p, DENSE, 2, 5, ("txt",)), ".txt is code", "weight (1, 1) of 1 instead of 0 gives"
    ),
    "weight for synthesis": Sabotage(DENSE, lambda p: number(p, DENSE, 2, 5, ("h",)), ".h is code"),
    "weight that is no power of two": Sabotage(
        LAST, lambda p: number(p, LAST, 2, 3, ("txt", "h")), "weight (", "weight (1, 0) of -4 instead of -6 gives"
    ),
    "bias": Sabotage(
        DENSE, lambda p: number(p, DENSE, 3, 2, ("txt", "h")), "bias (2,) in b", "bias (2,) of 5 instead of 4 gives"
    ),
    "bias for synthesis": Sabotage(DENSE, lambda p: number(p, DENSE, 3, 2, ("h",)), "bias (2,) in b"),
    "scale": Sabotage(
        NORM,
        lambda p: in_config(p, NORM, r"(scale.*) = \{6, -2, 4\}", r"\1 = {6, 2, 4}"),
        "{6, -2, 4}",
        "scale (1,) of 1 instead of -1 gives",
    ),
    "offset": Sabotage(
        NORM,
        lambda p: in_config(p, NORM, r"(offset.*) = \{5, 7", r"\1 = {5, 6"),
        "{5, 7, -6}",
        "offset (1,) of 6 instead of 7 gives",
    ),
    "rounding": Sabotage(
        DENSE, result_type(DENSE, "AP_RND_CONV", "AP_TRN"), "the output type is", "AP_TRN instead of AP_RND_CONV gives"
    ),
    "rounding of ties": Sabotage(
        DENSE, result_type(DENSE, "AP_RND_CONV", "AP_RND"), "the output type is", "AP_RND instead of AP_RND_CONV gives"
    ),
    "rounding of a convolution": Sabotage(
        CONV, result_type(CONV, "AP_RND_CONV", "AP_TRN_ZERO"), "the output type is", "AP_TRN"
    ),
    "rounding of the output": Sabotage(
        LAST, result_type(LAST, "AP_RND", "AP_RND_INF"), "the output type is", "AP_RND_INF instead of AP_RND gives"
    ),
    "overflow": Sabotage(
        DENSE, result_type(DENSE, "AP_SAT", "AP_WRAP"), "the output type is", "AP_WRAP instead of AP_SAT gives"
    ),
    "overflow of the output": Sabotage(
        LAST, result_type(LAST, "AP_SAT_SYM", "AP_SAT"), "the output type is", "AP_SAT instead of AP_SAT_SYM gives"
    ),
    "accumulator": Sabotage(
        DENSE, lambda p: in_type(p, f"{DENSE}_accum_t", r"<(\d+),(\d+)", narrower), "the accumulator is", None
    ),
    "accumulator by half": Sabotage(
        DENSE,
        lambda p: in_type(p, f"{DENSE}_accum_t", r"<\d+,\d+", "<7,7"),
        "the accumulator is",
        "an accumulator of 7 bits that wraps",
    ),
    "accumulator of a convolution": Sabotage(
        CONV, lambda p: in_type(p, f"{CONV}_accum_t", r"<(\d+),(\d+)", narrower), "the accumulator is", None
    ),
    "bias type": Sabotage(
        CONV,
        lambda p: in_type(p, f"{CONV}_bias_t", r"<(\d+),(\d+)", narrower),
        "the bias type is",
        "bias of format s2.0 instead of s3.0 gives",
    ),
    "weight type": Sabotage(
        LAST,
        lambda p: in_type(p, f"{LAST}_weight_t", r"<(\d+),(\d+)", narrower),
        "the weight type is",
        "weight of format s3.2 instead of s4.2 gives",
    ),
    "width of an exact result": Sabotage(
        NORM, lambda p: in_config(p, NORM, r"exact_bits = \d+", "exact_bits = 4"), "exact_bits = 4"
    ),
    "grid of an exact result": Sabotage(
        NORM, lambda p: in_config(p, NORM, r"exact_frac = -?\d+", "exact_frac = 9"), "exact_frac = 9"
    ),
    "function of a kernel": Sabotage(
        NORM, lambda p: in_config(p, NORM, "scale_and_offset<", "requantize<"), "requantize<"
    ),
    "stride of a convolution": Sabotage(
        CONV, lambda p: in_config(p, CONV, "stride_width = 1", "stride_width = 2"), "the constant stride_width is 2"
    ),
    "window of a convolution": Sabotage(
        CONV, lambda p: in_config(p, CONV, "filt_height = 3", "filt_height = 2"), "the constant filt_height is 2"
    ),
    "window of a pooling": Sabotage(
        POOL, lambda p: in_config(p, POOL, "pool_height = 2", "pool_height = 1"), "the constant pool_height is 1"
    ),
    "reuse factor": Sabotage(
        DENSE, lambda p: in_config(p, DENSE, "reuse_factor = 1", "reuse_factor = 2"), "the constant reuse_factor is 2"
    ),
    "result width": Sabotage(
        DENSE, result_type(DENSE, r"<(\d+),(\d+)", narrower), "the output type is", "an output of format"
    ),
    "result grid": Sabotage(
        LAST,
        result_type(LAST, r"<(\d+),", lambda m: f"<{int(m.group(1)) - 1},"),
        "the output type is",
        "an output of format",
    ),
    "result too wide to be a format": Sabotage(DENSE, result_type(DENSE, r"<\d+,", "<99,"), "the output type is"),
    "type of the pooling": Sabotage(POOL, result_type(POOL, r"<(\d+),(\d+)", narrower), "the output type is"),
    "input type": Sabotage("port", lambda p: in_type(p, "input_t", r"<(\d+),(\d+)", narrower), "the input type is"),
    "another function": Sabotage(
        POOL, lambda p: edit(p, TOP, r"nnet::pooling2d_cl<", "nnet::global_pooling2d_cl<"), "the call is"
    ),
    "a call without its comment": Sabotage(
        "victim", lambda p: edit(p, TOP, rf"; // {DENSE}", ";"), "the sequence of calls"
    ),
    "a call twice": Sabotage(
        "victim", lambda p: edit(p, TOP, rf"nnet::dense<[^;]*; // {DENSE}\n", r"\g<0>\g<0>"), "the sequence of calls"
    ),
    "a stray activation": Sabotage(
        "victim",
        lambda p: edit(p, TOP, rf"(; // {DENSE}\n)", r"\1nnet::relu<a, b, c>(x, y);\n"),
        "the sequence of calls",
    ),
}
