"""Recurrent layers laid out step by step, against the formulas of Keras on numbers; what has no end is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras_configs import Entry, evaluate, functional, layer, model, named, port, reads

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Dense, Input, IntGraph, Scan
from flow.ir.passes import lower
from flow.ir.reference import run
from flow.target import Target
from flow.verification.preflight import Model

STEPS, CHANNELS, UNITS = 4, 3, 2
INPUT = FixedFormat(True, 1, 3)
ACTIVATION, GATE, STATE = "quantized_bits(4,1,alpha=1)", "quantized_relu(4,2)", "quantized_bits(4,1,alpha=1)"
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


def rounded(x: np.ndarray) -> np.ndarray:
    """Return what `ACTIVATION` and `STATE` make of numbers."""
    return np.clip(np.rint(x * 4), -8, 7) / 4


def gated(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x * 4), 0, 15) / 4


def config(kind: str, **more: Any) -> dict[str, Any]:
    own = {"units": UNITS, "activation": ACTIVATION, "use_bias": True, "state_quantizer": STATE}
    own |= {} if kind == "SimpleRNN" else {"recurrent_activation": GATE}
    quantizers = dict.fromkeys(
        ("kernel_quantizer", "recurrent_quantizer", "bias_quantizer"), "quantized_bits(6,1,alpha=1)"
    )
    return {**own, **quantizers, **more}


def weights(kind: str, seed: int = 1, twice: bool = False) -> dict[str, np.ndarray]:
    rng, width = np.random.default_rng(seed), GATES[kind] * UNITS
    shapes = {
        "kernel": (CHANNELS, width),
        "recurrent_kernel": (UNITS, width),
        "bias": (2, width) if twice else (width,),
    }
    return {key: np.float32(rng.integers(-8, 9, shape) / 8) for key, shape in shapes.items()}


def steps(
    kind: str, x: np.ndarray, arrays: dict[str, np.ndarray], own: dict[str, Any], first: Any = None
) -> tuple[np.ndarray, Any]:
    """Return all outputs (samples, steps, units) in the order of the steps, and the last states."""
    w, u, b = (arrays[key].astype(float) for key in ("kernel", "recurrent_kernel", "bias"))
    h, c = (np.zeros((len(x), UNITS)),) * 2 if first is None else first
    outputs = []
    for row in (x[:, ::-1] if own.get("go_backwards") else x).transpose(1, 0, 2):
        h, c = rounded(h), rounded(c)
        if kind == "SimpleRNN":
            h = rounded(row @ w + b + h @ u)
        elif kind == "LSTM":
            i, f, g, o = np.split(row @ w + b + h @ u, 4, axis=1)
            c = gated(f) * c + gated(i) * rounded(g)
            h = gated(o) * rounded(c)
        else:
            of_input, of_state = b if own.get("reset_after") else (b, np.zeros(3 * UNITS))
            xz, xr, xg = np.split(row @ w + of_input, 3, axis=1)
            hz, hr, hg = np.split(h @ u + of_state, 3, axis=1)
            z, r = gated(xz + hz), gated(xr + hr)
            new = r * hg if own.get("reset_after") else (r * h) @ u[:, 2 * UNITS :]
            h = z * h + (1 - z) * rounded(xg + new)
        outputs.append(h)
    return np.stack(outputs, 1), (h, c) if kind == "LSTM" else (h,)


def samples() -> np.ndarray:
    return np.random.default_rng(2).integers(INPUT.min_code, INPUT.max_code + 1, (200, STEPS, CHANNELS))


def computed(trained: TrainedModel) -> list[np.ndarray]:
    """Return the outputs of a model as numbers, of its graph before and behind the passes, laid out and folded."""
    graphs = [extract(trained, INPUT, evaluate=evaluate, folds=folds) for folds in (False, True)]
    found = [outputs(each) for graph in graphs for each in (graph, lower(graph, stream=True))]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    return found[0]


def outputs(graph: IntGraph) -> list[np.ndarray]:
    codes = run(graph, samples()).codes
    return [codes[name] * graph[name].format.step for name in graph.outputs]


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("kind", "more"), [("SimpleRNN", {}), ("LSTM", {}), ("GRU", {"reset_after": False}), ("GRU", {"reset_after": True})]
)
def test_cells_are_their_formulas(kind: str, more: dict[str, Any], backwards: bool, sequences: bool) -> None:
    own = config(kind, return_sequences=sequences, go_backwards=backwards, **more)
    arrays = weights(kind, twice=bool(more.get("reset_after")))
    trained = model(port(STEPS, CHANNELS), layer(f"Q{kind}", "rnn", **own), weights={"rnn": arrays})
    every, _ = steps(kind, samples() * INPUT.step, arrays, own)
    (found,) = computed(trained)
    np.testing.assert_array_equal(found, every if sequences else every[:, -1])
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_both_directions(mode: str | None, sequences: bool) -> None:
    own = config("GRU", return_sequences=sequences, reset_after=False)
    there, back = weights("GRU"), weights("GRU", seed=2)
    named_arrays = {f"forward_{key}": a for key, a in there.items()} | {f"backward_{key}": a for key, a in back.items()}
    entry = layer("QBidirectional", "both", layer=layer("QGRU", "inner", **own), merge_mode=mode)
    trained = functional(
        named("in", STEPS, CHANNELS), reads(entry, "in"), outputs=["both"], weights={"both": named_arrays}
    )
    if mode is None:
        trained.config["output_layers"].append(["both", 0, 1])
    x = samples() * INPUT.step
    one, other = steps("GRU", x, there, own)[0], steps("GRU", x, back, {**own, "go_backwards": True})[0][:, ::-1]
    one, other = (one, other) if sequences else (one[:, -1], other[:, 0])
    joined = {
        "concat": np.concatenate([one, other], -1),
        "sum": one + other,
        "mul": one * other,
        "ave": (one + other) / 2,
    }
    for found, wanted in zip(computed(trained), [one, other] if mode is None else [joined[mode]], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_states_leave_a_layer_and_begin_another() -> None:
    own = config("LSTM", return_state=True)
    arrays = {"first": weights("LSTM"), "second": weights("LSTM", seed=2)}
    second = {**reads(layer("QLSTM", "second", **config("LSTM")), "in")}
    second["inbound_nodes"] = [[["in", 0, 0, {}], ["first", 0, 1, {}], ["first", 0, 2, {}]]]
    first = reads(layer("QLSTM", "first", **own), "in")
    trained = functional(named("in", STEPS, CHANNELS), first, second, outputs=["second"], weights=arrays)
    read_by_one = lower(extract(trained, INPUT, evaluate=evaluate))
    given = [op for op in read_by_one.ops if op.layers and op.layers[-1].startswith("first:")]
    assert len(given) == 2 and not any("requantize" in op.fused for op in given), "compared as they leave their layer"
    trained.config["output_layers"][:0] = [["first", 0, 0], ["first", 0, 2]]
    x = samples() * INPUT.step
    every, (h, c) = steps("LSTM", x, arrays["first"], own)
    begun, _ = steps("LSTM", x, arrays["second"], own, (h, c))
    for found, wanted in zip(computed(trained), (every[:, -1], c, begun[:, -1]), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_quantizer_that_makes_something_of_zero_makes_the_first_state() -> None:
    own, arrays = config("SimpleRNN", state_quantizer="binary"), weights("SimpleRNN")
    trained = model(port(STEPS, CHANNELS), layer("QSimpleRNN", "rnn", **own), weights={"rnn": arrays})
    w, u, b = (arrays[key].astype(float) for key in ("kernel", "recurrent_kernel", "bias"))
    h = np.zeros((200, UNITS))
    for row in (samples() * INPUT.step).transpose(1, 0, 2):
        h = rounded(row @ w + b + np.where(h < 0, -1, 1) @ u)
    np.testing.assert_array_equal(computed(trained)[0], h)


def test_lines_of_qkeras_are_computed_at_any_width() -> None:
    """x / 2 + 1 / 2 keeps every bit of a sum, so no table holds it."""
    fine = np.float32(np.random.default_rng(3).integers(-(2**17), 2**17, (CHANNELS, 2)) / 2**16)
    entries = [layer("QDense", "fc", units=2, use_bias=False), layer("QActivation", "act", activation="hard_sigmoid")]
    trained = model(port(STEPS, CHANNELS), *entries, weights={"fc": {"kernel": fine}})
    (found,) = computed(trained)
    np.testing.assert_array_equal(found, np.clip(samples() * INPUT.step @ fine.astype(float) / 2 + 0.5, 0, 1))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            layer("QLSTM", "rnn", **config("LSTM", state_quantizer=None)),
            "no state quantizer.*give it a state_quantizer",
        ),
        (layer("QLSTM", "rnn", **config("LSTM", stateful=True)), "stateful=True"),
        (layer("QLSTM", "rnn", **config("LSTM", activation="softmax")), "softmax at each step"),
        (layer("QLSTM", "rnn", **config("LSTM", activation="tanh")), "'tanh' gives values on no grid"),
        (layer("QGRU", "rnn", **config("GRU", recurrent_quantizer=None)), "has no recurrent_quantizer"),
        (layer("QBidirectional", "rnn", layer=layer("QDense", "x")), "is around a QDense"),
    ],
)
def test_refusals_say_what_to_do(entry: Entry, words: str) -> None:
    kind = entry["class_name"].removeprefix("Q")
    trained = model(port(40, CHANNELS), entry, weights={"rnn": weights(kind if kind in GATES else "LSTM")})
    with pytest.raises(UnsupportedError, match=f"layer 'rnn' .*{words}"):
        extract(trained, INPUT, evaluate=evaluate)


# -- one step for every row


def lstm(steps: int = STEPS, **more: Any) -> TrainedModel:
    entries = [port(steps, CHANNELS), layer("QLSTM", "rnn", **config("LSTM", **more))]
    return model(*entries, weights={"rnn": weights("LSTM")})


@pytest.mark.parametrize(
    ("target", "folded"),
    [
        (Target(backend="rtl", io_type="io_stream"), True),
        (Target(backend="rtl"), False),  # without windows it becomes a pipeline
        (Target(backend="rtl", io_type="io_parallel"), False),
        (Target(io_type="io_stream"), True),
        (Target(), False),
        (Target(backend="Libero"), False),
        (None, False),
    ],
    ids=str,
)
def test_a_stream_asks_for_one_step(target: Target | None, folded: bool) -> None:
    made = Model(trained=lstm(), input_format=INPUT, evaluate=evaluate).extracted(target).made
    assert made is not None and made.laid_out == (() if folded else ("rnn",))
    assert [type(op) for op in made.checked().ops] == [Input, Dense, Scan] or not folded


def test_windows_before_a_cell_make_a_stream_of_verilog() -> None:
    pooled = layer("MaxPooling1D", "pool", pool_size=2, strides=1, padding="same")
    trained = model(
        port(STEPS, CHANNELS), pooled, layer("QGRU", "rnn", **config("GRU")), weights={"rnn": weights("GRU")}
    )
    made = Model(trained=trained, input_format=INPUT, evaluate=evaluate).extracted(Target(backend="rtl")).made
    assert made is not None and made.laid_out == () and isinstance(made.checked().output, Scan)


def test_what_cannot_be_folded_is_laid_out_and_says_why() -> None:
    graph = extract(lstm(steps=2, state_quantizer=None), INPUT, evaluate=evaluate, folds=True)
    (warning,) = graph.warnings
    assert "layer 'rnn' has hardware of its own for every step: its states get longer" in warning
    assert not any(isinstance(op, Scan) for op in graph.ops)


def test_a_folded_sequence_may_be_long() -> None:
    with pytest.raises(UnsupportedError, match="a sequence of 300 steps; at most 256 are laid out; in a stream"):
        extract(lstm(steps=300), INPUT, evaluate=evaluate)
    scan = extract(lstm(steps=300), INPUT, evaluate=evaluate, folds=True).output
    assert isinstance(scan, Scan) and scan.rows == 300


def test_a_state_that_nothing_quantizes_finds_its_format() -> None:
    """What the activation of a QSimpleRNN gives is what its next step reads."""
    own = config("SimpleRNN", state_quantizer=None)
    trained = model(port(STEPS, CHANNELS), layer("QSimpleRNN", "rnn", **own), weights={"rnn": weights("SimpleRNN")})
    scan = extract(trained, INPUT, evaluate=evaluate, folds=True).output
    assert isinstance(scan, Scan) and scan.body[1].format == FixedFormat(True, 1, 2)
    computed(trained)
