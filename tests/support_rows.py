"""The rows of docs/support.md: for each layer, quantizer and topology a tiny QKeras model that uses it.

Each is a port, its quantizer, the layer in question (called "subject") and a quantizer behind it ("act").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from keras_configs import Entry, layer, named, reads

from flow.frontend.keras.quantizers import FUNCTIONS
from flow.train.random_drafts import EPSILON
from flow.train.random_models import Recipe

Shape = tuple[int, ...]
BITS, PO2 = "quantized_bits(4,0,1,alpha=1)", "quantized_po2(4,1)"
PORT, ACT = "quantized_bits(4,1,alpha=1)", "quantized_bits(6,2,alpha=1)"
SEED = 165
"""Gives every kernel weights of several sizes."""
VECTOR: Shape = (4,)
SEQUENCE: Shape = (6, 2)
IMAGE: Shape = (4, 4, 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A line of a table.

    Attributes:
        name: layer class, quantizer or function that it is about.
        label: its first cell, Markdown.
        recipe: the model.
        softmax: output format of a final softmax, as for `--softmax`.
    """

    name: str
    label: str
    recipe: Recipe
    softmax: str | None = None


def recipe(label: str, ports: Sequence[Entry], entries: Sequence[Entry], outputs: Sequence[str], **more: Any) -> Recipe:
    """Return the recipe of a functional model; an entry that does not say what it reads, reads the one before."""
    listed = [{**port, "name": port["config"]["name"], "inbound_nodes": []} for port in ports]
    for entry in entries:
        listed.append(entry if "inbound_nodes" in entry else reads(entry, listed[-1]["name"]))
    config = {
        "name": "support",
        "layers": listed,
        "input_layers": [[port["config"]["name"], 0, 0] for port in ports],
        "output_layers": [[name, 0, 0] for name in outputs],
    }
    return Recipe(name=f"row_{crc32(label.encode()):08x}", config=config, seed=SEED, **more)


def _label(class_name: str, note: str) -> str:
    return f"`{class_name}`" + (f", {note}" if note else "")


def activation(name: str, text: Any, class_name: str = "QActivation") -> Entry:
    return layer(class_name, name, activation=text)


def row(
    class_name: str, shape: Shape, note: str = "", *, last: bool = False, then: Sequence[Entry] = (), **config: Any
) -> Row:
    """Return the row of a layer that reads one tensor.

    Args:
        class_name: of the layer.
        shape: of what it reads.
        note: what is special about this row.
        last: whether no quantizer stands behind it.
        then: layers behind that.
        **config: of the layer.
    """
    label = _label(class_name, note)
    entries = [activation("quantize", PORT), layer(class_name, "subject", **config)]
    entries += [*([] if last else [activation("act", ACT)]), *then]
    made = recipe(label, [named("port", *shape)], entries, [entries[-1]["config"]["name"]])
    return Row(name=class_name, label=label, recipe=made)


def merge(class_name: str, note: str = "", count: int = 2, **config: Any) -> Row:
    """Return the row of a layer that reads several tensors of one shape."""
    label = _label(class_name, note)
    others = [activation(f"other{number}", "quantized_relu(3,1)") for number in range(count - 1)]
    entries = [
        activation("quantize", PORT),
        *(reads(other, "quantize") for other in others),
        reads(layer(class_name, "subject", **config), "quantize", *(other["config"]["name"] for other in others)),
        activation("act", ACT),
    ]
    return Row(name=class_name, label=label, recipe=recipe(label, [named("port", *VECTOR)], entries, ["act"]))


# -- layers

BIAS = "quantized_bits(5,1,alpha=1)"
KERNEL: Mapping[str, Any] = {"kernel_quantizer": BITS, "use_bias": True, "bias_quantizer": BIAS}
NORM: Mapping[str, Any] = {"axis": [1], "momentum": 0.99, "epsilon": EPSILON, "center": True, "scale": True}
FEW_EXPONENTS: Mapping[str, Any] = {
    "beta_quantizer": BIAS,
    "mean_quantizer": BIAS,
    "gamma_quantizer": "quantized_relu_po2(4,2)",
    "variance_quantizer": "quantized_relu_po2(4,2,quadratic_approximation=True)",
}
FIXED = {"class_name": "quantized_po2_zero", "config": {"bits": 4, "max_value": 2}}
GRID = {"class_name": "quantized_grid", "config": {"bits": 6, "integer": 1}}

LAYER_NORM: Mapping[str, Any] = {"bits": 6, "integer": 2, "root_bits": 4, "epsilon": EPSILON}


def window(*size: int, **config: Any) -> dict[str, Any]:
    return {"kernel_size": list(size), "strides": [1] * len(size), "padding": "valid", **config}


def pool(*size: int, **config: Any) -> dict[str, Any]:
    return {"pool_size": list(size), "strides": list(size), "padding": "valid", **config}


DEPTHWISE: Mapping[str, Any] = {"depthwise_quantizer": BITS, "use_bias": False}
SEPARABLE: Mapping[str, Any] = {**DEPTHWISE, "pointwise_quantizer": BITS, "filters": 3}
WEIGHTED: Mapping[str, tuple[Shape, Mapping[str, Any]]] = {
    "QDense": (VECTOR, {"units": 3, **KERNEL}),
    "QConv1D": (SEQUENCE, {"filters": 3, **window(3), **KERNEL}),
    "QConv2D": (IMAGE, {"filters": 3, **window(3, 3), **KERNEL}),
    "QDepthwiseConv2D": (IMAGE, {**window(3, 3), **DEPTHWISE}),
    "QSeparableConv1D": (SEQUENCE, {**window(3), **SEPARABLE}),
    "QSeparableConv2D": (IMAGE, {**window(3, 3), **SEPARABLE}),
    "QConv2DTranspose": (IMAGE, {"filters": 2, **window(2, 2, strides=[2, 2]), **KERNEL}),
    "QConv2DBatchnorm": (IMAGE, {"filters": 3, **window(3, 3, epsilon=EPSILON), **KERNEL}),
    "QDepthwiseConv2DBatchnorm": (IMAGE, {**window(3, 3, epsilon=EPSILON), **DEPTHWISE}),
}
"""Layers with quantized weights: what each reads, and its configuration."""
LEAKY = {"class_name": "LeakyReLU", "config": {"alpha": 0.25}}
QUANTIZER_KEYS = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")


def _dense(name: str) -> Entry:
    return layer("QDense", name, units=4, **KERNEL)


def _weighted(class_name: str, note: str = "", shape: Shape | None = None, **config: Any) -> Row:
    own_shape, own = WEIGHTED[class_name]
    return row(class_name, shape or own_shape, note, **{**own, **config})


def _plain(class_name: str) -> Row:
    """Return the row of Keras' own layer for QKeras' layer: no quantizers."""
    shape, config = WEIGHTED[f"Q{class_name}"]
    return row(class_name, shape, **{key: value for key, value in config.items() if not key.endswith("_quantizer")})


def _frozen(*scale: float) -> Entry:
    """Return a quantizer as QKeras' master writes one with a scale for each channel that was found in data."""
    config = {"bits": 5, "integer": 1, "symmetric": 1, "alpha": "auto_po2", "post_training_scale": [list(scale)]}
    return {"class_name": "quantized_bits", "config": config}


def _wide() -> Row:
    """Return a row whose scales lie so far apart that their products need more bits than a float64 holds."""
    made = row("QBatchNormalization", VECTOR, "its default quantizers, a gamma of zero", **NORM)
    return replace(made, recipe=replace(made.recipe, seed=1))


def _softmax(note: str) -> Row:
    """Return a row with a softmax at the end, behind a layer that computes something."""
    label = f"`Softmax`, {note}"
    entries = [
        activation("quantize", PORT),
        layer("QDense", "dense", units=3, **KERNEL),
        activation("act", ACT),
        layer("Softmax", "subject", axis=-1),
    ]
    made = recipe(label, [named("port", *VECTOR)], entries, ["subject"])
    return Row(name="Softmax", label=label, recipe=made)


def _matrices() -> Row:
    """Return a row of the product of two matrices that are computed."""
    label = "`Dot`, of two matrices"
    entries = [
        activation("quantize", PORT),
        reads(activation("other", "quantized_relu(3,1)"), "quantize"),
        reads(layer("Dot", "subject", axes=[2, 2], normalize=False), "quantize", "other"),
        activation("act", ACT),
    ]
    return Row(name="Dot", label=label, recipe=recipe(label, [named("port", *SEQUENCE)], entries, ["act"]))


STEPS: Shape = (3, 2)
CELL: Mapping[str, Any] = {
    **{"units": 2, "activation": "quantized_tanh(4)", "kernel_quantizer": BITS, "recurrent_quantizer": BITS},
    **{"use_bias": True, "bias_quantizer": BIAS, "state_quantizer": "quantized_bits(5,0,1,alpha=1)"},
}
GATED: Mapping[str, Any] = {**CELL, "recurrent_activation": "hard_sigmoid"}
QUANTIZED_GATES: Mapping[str, Any] = {**CELL, "recurrent_activation": "quantized_sigmoid(4)"}
UNQUANTIZED_STATES: Mapping[str, Any] = {
    **{**CELL, "activation": "quantized_bits(4,0,1,alpha=1)", "state_quantizer": None},
    "recurrent_activation": "quantized_relu(4,1)",
}
TANH_4 = {"class_name": "quantized_tanh", "config": {"bits": 4}}
SIGMOID_4 = {"class_name": "quantized_sigmoid", "config": {"bits": 4}}
KERAS_GATED: Mapping[str, Any] = {"units": 2, "activation": TANH_4, "recurrent_activation": SIGMOID_4, "use_bias": True}

BACKWARDS: Mapping[str, Any] = {"return_sequences": True, "go_backwards": True}


def _inside(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"layer": layer(class_name, "inner", **config)}


def _embedding(note: str) -> Row:
    """Return a row with an embedding."""
    label = f"`Embedding`, {note}"
    entries = [layer("Embedding", "subject", input_dim=6, output_dim=3), activation("act", ACT)]
    made = recipe(label, [named("port", *VECTOR)], entries, ["act"])
    return Row(name="Embedding", label=label, recipe=made)


def _average_normalized() -> Row:
    norm, note = layer("BatchNormalization", "norm", **NORM), "a batch normalization, then a quantizer"
    return row("GlobalAveragePooling1D", SEQUENCE, note, last=True, then=[norm, activation("act", ACT)])


def _averages() -> Row:
    """Return the row of an average of three that two layers read, one of them a ReLU, and of their product."""
    found = merge("Average", "of three, read by a ReLU and multiplied by it, no quantizer", 3)
    *entries, _ = found.recipe.config["layers"][1:]
    bent = reads(layer("ReLU", "bent", max_value=1.5), "subject")
    product = reads(layer("Multiply", "product"), "subject", "bent")
    made = recipe(found.label, [named("port", *VECTOR)], [*entries, bent, product], ["product"])
    return replace(found, recipe=made)


LAYER_ROWS: Sequence[Row] = (
    replace(
        row("InputLayer", VECTOR, "not quantized by the model (`--input-format`)"),
        recipe=recipe(
            "input",
            [named("port", *VECTOR)],
            [layer("QDense", "subject", units=3, **KERNEL), activation("act", ACT)],
            ["act"],
            input_format="fixed<5,2>",
        ),
    ),
    _embedding("of whole numbers"),
    _weighted("QDense"),
    _weighted("QDense", "`post_training_scale`", kernel_quantizer=_frozen(0.5, 0.3, 2)),
    _weighted("QDense", "on a sequence", SEQUENCE),
    _weighted("QDense", "on an image", IMAGE),
    _plain("Dense"),
    row("Dense", VECTOR, "`activation=LeakyReLU(0.25)`, as an object", units=3, activation=LEAKY),
    row("QDenseBatchnorm", VECTOR, units=3, epsilon=EPSILON, **KERNEL),
    row("EinsumDense", SEQUENCE, "`abc,cd->abd`", equation="abc,cd->abd", output_shape=[6, 3], bias_axes="d"),
    row("EinsumDense", SEQUENCE, "`abc,bcde->ade`", equation="abc,bcde->ade", output_shape=[3, 2], bias_axes=None),
    row("EinsumDense", SEQUENCE, "`abc,bd->adc`", equation="abc,bd->adc", output_shape=[3, 2], bias_axes=None),
    _weighted("QConv1D"),
    _weighted("QConv1D", "`same`, strides 2", padding="same", strides=[2]),
    _weighted("QConv1D", "`causal`, dilation 2", padding="causal", dilation_rate=[2]),
    _plain("Conv1D"),
    _weighted("QConv2D"),
    _weighted("QConv2D", "`same`, strides 2", padding="same", strides=[2, 2]),
    _weighted("QConv2D", "window 1 x 1", kernel_size=[1, 1]),
    _weighted("QConv2D", "dilation 2", kernel_size=[2, 2], dilation_rate=[2, 2]),
    _weighted("QConv2D", "2 groups", filters=4, groups=2),
    _weighted("QConv2D", "`channels_first`", kernel_size=[2, 2], data_format="channels_first"),
    _plain("Conv2D"),
    _weighted("QConv2DBatchnorm"),
    _weighted("QDepthwiseConv2D"),
    _weighted("QDepthwiseConv2D", "multiplier 2, `same`", depth_multiplier=2, padding="same"),
    _plain("DepthwiseConv2D"),
    row("DepthwiseConv1D", SEQUENCE, **window(3), use_bias=False),
    _weighted("QDepthwiseConv2DBatchnorm"),
    _weighted("QSeparableConv1D"),
    _plain("SeparableConv1D"),
    _weighted("QSeparableConv2D"),
    _plain("SeparableConv2D"),
    row("Conv1DTranspose", SEQUENCE, filters=2, **window(2, strides=[2])),
    row("LocallyConnected1D", SEQUENCE, filters=2, **window(2), use_bias=True),
    row("LocallyConnected2D", IMAGE, filters=2, **window(3, 3), use_bias=True),
    _weighted("QConv2DTranspose"),
    _plain("Conv2DTranspose"),
    row("BatchNormalization", VECTOR, **NORM),
    row("QBatchNormalization", VECTOR, "quantizers of few exponents", **NORM, **FEW_EXPONENTS),
    _wide(),
    row(
        "FixedBatchNormalization",
        VECTOR,
        "scale `quantized_po2_zero` (ours)",
        **NORM,
        scale_quantizer=FIXED,
        offset_quantizer=GRID,
    ),
    row(
        "FixedBatchNormalization",
        VECTOR,
        "scale `quantized_grid` (ours)",
        **NORM,
        scale_quantizer=GRID,
        offset_quantizer=GRID,
    ),
    row("QActivation", VECTOR, "a cast", activation="quantized_relu(3,1)"),
    row("QActivation", VECTOR, "`alpha='auto_po2'`, frozen (`post_training_scale`)", activation=_frozen(1, 2, 1, 0.5)),
    row("QActivation", VECTOR, "a function", activation="quantized_tanh(4)"),
    row("Activation", VECTOR, "`relu`", activation="relu"),
    row("Activation", VECTOR, "a function", activation="tanh"),
    row("Activation", VECTOR, "a function without a quantizer behind it", last=True, activation="tanh"),
    row("ReLU", VECTOR),
    row("ReLU", VECTOR, "`max_value`", max_value=1.5),
    row("ReLU", VECTOR, "`negative_slope`", negative_slope=0.25),
    row("ReLU", VECTOR, "`threshold`", threshold=0.5),
    row("LeakyReLU", VECTOR, "slope of few bits", alpha=0.25),
    row("LeakyReLU", VECTOR, "any slope", alpha=0.3),
    row("PReLU", VECTOR),
    row("ELU", VECTOR, alpha=1.0),
    row("ThresholdedReLU", VECTOR, theta=0.5),
    _softmax("final, left off (`--softmax off`)"),
    replace(_softmax("final, `--softmax 'ufixed<8,0>'` (of integers; QKeras' is of floats)"), softmax="ufixed<8,0>"),
    row("Softmax", VECTOR, "not final", axis=-1),
    row("FixedSoftmax", VECTOR, "of integers (ours)", bits=6),
    row("FixedSoftmax", SEQUENCE, "on a sequence", bits=6),
    row("LayerNormalization", VECTOR, "of floats (`--float-layers`, or quantized)", axis=-1, epsilon=0.001),
    row("FixedLayerNormalization", VECTOR, "of integers (ours)", **LAYER_NORM),
    row("FixedLayerNormalization", SEQUENCE, "on a sequence", **LAYER_NORM),
    row("MaxPooling1D", SEQUENCE, **pool(2)),
    row("MaxPooling2D", IMAGE, **pool(2, 2)),
    row("MaxPooling2D", IMAGE, "overlapping", **pool(3, 3, strides=[1, 1])),
    row("MaxPooling2D", IMAGE, "padded", **pool(3, 3, padding="same")),
    row("MaxPooling2D", IMAGE, "`channels_first`", **pool(2, 2, data_format="channels_first")),
    row("GlobalMaxPooling1D", SEQUENCE),
    row("GlobalMaxPooling2D", IMAGE, "a dense behind it", then=[_dense("end"), activation("end_act", ACT)]),
    row("AveragePooling1D", SEQUENCE, **pool(2)),
    row("AveragePooling2D", IMAGE, **pool(2, 2)),
    row("AveragePooling2D", IMAGE, "any window, padded", **pool(3, 3, padding="same")),
    row("AveragePooling2D", IMAGE, "no quantizer behind it", last=True, **pool(3, 3, padding="same")),
    row("GlobalAveragePooling1D", SEQUENCE),
    row("GlobalAveragePooling1D", SEQUENCE, "a dense behind it, no quantizer", last=True, then=[_dense("end")]),
    _average_normalized(),
    row("GlobalAveragePooling2D", IMAGE),
    row("QAveragePooling2D", IMAGE, **pool(2, 2)),
    row("QAveragePooling2D", IMAGE, "`average_quantizer`", **pool(2, 2), average_quantizer=BITS),
    row("QAveragePooling2D", IMAGE, "`average_quantizer`, window 3 x 3", **pool(3, 3), average_quantizer=BITS),
    row("QGlobalAveragePooling2D", IMAGE),
    *(merge(name) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")),
    merge("Average", "of three", 3),
    _averages(),
    merge("Concatenate", axis=-1),
    merge("Dot", "of two vectors", axes=1, normalize=False),
    _matrices(),
    row("Flatten", IMAGE, "a dense behind it", last=True, then=[_dense("end"), activation("act", ACT)]),
    row("Flatten", IMAGE, "no dense behind it"),
    row("Reshape", SEQUENCE, "channels 2 to 4", target_shape=[3, 4]),
    row("Reshape", SEQUENCE, "channels 2 to 3", target_shape=[4, 3]),
    row("Permute", SEQUENCE, dims=[2, 1]),
    row("QSimpleRNN", STEPS, **CELL),
    row("QSimpleRNN", STEPS, "`tanh` before the state quantizer", **{**CELL, "activation": "tanh"}),
    row("SimpleRNN", STEPS, "`quantized_tanh`", units=2, activation=TANH_4, use_bias=True),
    row("QLSTM", STEPS, "`hard_sigmoid`", **GATED),
    row("QLSTM", STEPS, "`quantized_sigmoid`, every step, backwards", **QUANTIZED_GATES, **BACKWARDS),
    row("QLSTM", STEPS, "no state quantizer, 3 steps", **UNQUANTIZED_STATES),
    row("QLSTM", (40, 2), "no state quantizer, 40 steps", **UNQUANTIZED_STATES),
    row("LSTM", STEPS, "`quantized_tanh`, `quantized_sigmoid`", **KERAS_GATED),
    row("LSTM", STEPS, "`tanh`, `sigmoid`", units=2, activation="tanh", recurrent_activation="sigmoid", use_bias=True),
    row("QGRU", STEPS, "`hard_sigmoid`", **GATED, reset_after=False),
    row("QGRU", STEPS, "`reset_after`, every step", **QUANTIZED_GATES, reset_after=True, return_sequences=True),
    row("GRU", STEPS, "`quantized_tanh`, `quantized_sigmoid`", **KERAS_GATED, reset_after=True),
    row("QBidirectional", STEPS, "of `QLSTM`", **_inside("QLSTM", QUANTIZED_GATES), merge_mode="concat"),
    row("QBidirectional", STEPS, "of `QSimpleRNN`, summed", **_inside("QSimpleRNN", CELL), merge_mode="sum"),
    row("Bidirectional", STEPS, "of `QSimpleRNN`", **_inside("QSimpleRNN", CELL), merge_mode="concat"),
    row("RepeatVector", VECTOR, n=2),
    row("ZeroPadding1D", SEQUENCE, padding=[1, 1]),
    row("ZeroPadding2D", IMAGE, padding=[[1, 1], [1, 1]]),
    row("Cropping1D", SEQUENCE, cropping=[1, 1]),
    row("Cropping2D", IMAGE, cropping=[[1, 1], [1, 1]]),
    row("UpSampling1D", SEQUENCE, size=2),
    row("UpSampling2D", IMAGE, size=[2, 2], interpolation="nearest"),
    row("UpSampling2D", IMAGE, "`bilinear`", size=[2, 2], interpolation="bilinear"),
    row("Identity", VECTOR),
    *(row(name, VECTOR, rate=0.5) for name in ("Dropout", "AlphaDropout", "GaussianDropout")),
    row("SpatialDropout1D", SEQUENCE, rate=0.5),
    row("SpatialDropout2D", IMAGE, rate=0.5),
    row("GaussianNoise", VECTOR, stddev=0.5),
    row("ActivityRegularization", VECTOR, l1=0.0, l2=0.0),
)

# -- topology


def _topology(label: str, ports: Sequence[str], entries: Sequence[Entry], outputs: Sequence[str]) -> Row:
    made = recipe(label, [named(name, *VECTOR) for name in ports], entries, outputs)
    return Row(name="", label=label, recipe=made)


ALL: Mapping[str, Any] = {"start": None, "stop": None, "step": None}


def _called(function: str, name: str, nodes: list[Any]) -> Entry:
    """Return a function of tensors as Keras lists it."""
    kind = "SlicingOpLambda" if function == "__operators__.getitem" else "TFOpLambda"
    return {**layer(kind, name, function=function), "name": name, "inbound_nodes": nodes}


def _shared() -> Row:
    entries = [activation("quantize", PORT), reads(_dense("subject"), "quantize"), activation("act", ACT)]
    entries[1]["inbound_nodes"].append([["act", 0, 0, {}]])
    made = _topology("one layer called twice", ["port"], entries, ["subject"])
    config = {**made.recipe.config, "output_layers": [["subject", 1, 0]]}
    return replace(made, recipe=replace(made.recipe, config=config))


def _inner(*entries: Entry, shape: Sequence[int] = (2, 1)) -> Entry:
    """Return a chain as a model that another one holds."""
    made = recipe("inner", [named("inner_port", *shape)], [*entries], [entries[-1]["config"]["name"]])
    return {"class_name": "Functional", "config": {**made.config, "name": "model"}}


def _of_steps(label: str, shape: Sequence[int], inner: Entry) -> Row:
    """Return a row with a layer or model for each step of a sequence."""
    rows = layer("Reshape", "rows", target_shape=shape)
    entries = [activation("quantize", PORT), rows, layer("TimeDistributed", "subject", layer=inner)]
    return _topology(label, ["port"], [*entries, activation("act", ACT)], ["act"])


def _nested() -> Row:
    entries = [activation("quantize", PORT), _inner(_dense("subject"), activation("act", ACT), shape=VECTOR)]
    made = _topology("a model in a model", ["port"], entries, ["model"])
    config = {**made.recipe.config, "output_layers": [["model", 1, 0]]}
    return replace(made, recipe=replace(made.recipe, config=config))


TOPOLOGY_ROWS: Sequence[Row] = (
    _topology("a chain", ["port"], [activation("quantize", PORT), _dense("subject"), activation("act", ACT)], ["act"]),
    _topology("only a quantizer", ["port"], [activation("act", PORT)], ["act"]),
    _topology(
        "operators: `a * 2 - b`",
        ["port"],
        [
            activation("quantize", PORT),
            activation("other", "quantized_relu(3,1)"),
            _called("math.multiply", "scaled", [["quantize", 0, 0, {"y": 2.0}]]),
            _called("math.subtract", "subject", [["scaled", 0, 0, {"y": ["other", 0, 0]}]]),
            activation("act", ACT),
        ],
        ["act"],
    ),
    _topology(
        "functions: `tf.reduce_max(tf.abs(a[:, 1:, None]), axis=1)`",
        ["port"],
        [
            activation("quantize", PORT),
            _called(
                "__operators__.getitem", "slice", [["quantize", 0, 0, {"slice_spec": [ALL, {**ALL, "start": 1}, None]}]]
            ),
            _called("math.abs", "abs", [["slice", 0, 0, {}]]),
            _called("math.reduce_max", "subject", [["abs", 0, 0, {"axis": 1}]]),
            activation("act", ACT),
        ],
        ["act"],
    ),
    _topology(
        "another function: `tf.math.log(a)`",
        ["port"],
        [
            activation("quantize", PORT),
            _called("math.log", "subject", [["quantize", 0, 0, {}]]),
            activation("act", ACT),
        ],
        ["act"],
    ),
    _of_steps("`TimeDistributed` of a layer of the last axis", [2, 2], _dense("each")),
    _of_steps("`TimeDistributed` of any other layer", [2, 2, 1], layer("MaxPooling1D", "each", pool_size=2)),
    _of_steps("`TimeDistributed` of a model", [2, 2, 1], _inner(layer("Flatten", "flat"), _dense("subject"))),
    _topology(
        "a branch (residual)",
        ["port"],
        [
            activation("quantize", PORT),
            _dense("subject"),
            activation("act", ACT),
            reads(layer("Add", "add"), "act", "quantize"),
            activation("end", ACT),
        ],
        ["end"],
    ),
    _topology(
        "several inputs",
        ["port", "other"],
        [
            reads(activation("quantize", PORT), "port"),
            reads(activation("quantize_other", ACT), "other"),
            reads(layer("Add", "add"), "quantize", "quantize_other"),
            _dense("subject"),
            activation("act", ACT),
        ],
        ["act"],
    ),
    _topology(
        "several outputs",
        ["port"],
        [
            activation("quantize", PORT),
            _dense("subject"),
            activation("act", ACT),
            _dense("layer2"),
            activation("act2", ACT),
        ],
        ["act", "act2"],
    ),
    _shared(),
    _nested(),
)

# -- quantizers

WEIGHT_TEXTS = (
    BITS,
    "quantized_bits(4,0,alpha=1)",
    "quantized_bits(4,1,keep_negative=False,alpha=1)",
    "quantized_bits(1,0,alpha=1)",
    "quantized_bits(4,0,1,alpha=0.5)",
    "quantized_bits(4,0,1)",
    "quantized_bits(4,0,1,alpha='auto')",
    "quantized_bits(4,0,1,alpha='auto_po2')",
    "quantized_bits(4,0,1,alpha=1,qnoise_factor=0.5)",
    "quantized_po2_zero(4,1)",
    "quantized_apot(2,-4,0)",
    "quantized_grid(4,1)",
    PO2,
    "quantized_po2(4,1,quadratic_approximation=True)",
    "quantized_relu_po2(4,1)",
    "binary(alpha=1)",
    "binary(True,alpha=1)",
    "binary()",
    "ternary(alpha=1)",
    "ternary()",
    "stochastic_binary(alpha=1)",
    "stochastic_ternary(alpha=1)",
    "quantized_relu(4,1)",
    "quantized_ulaw(4,0)",
    "quantized_tanh(4)",
    "quantized_sigmoid(4)",
    "quantized_hswish(4,1,alpha=1)",
    "bernoulli(alpha=1)",
    "stochastic_round",
    "stochastic_round_po2",
    "my_quantizer(bits=4)",
)
ACTIVATION_TEXTS = (
    "quantized_relu(4,1)",
    "quantized_relu(4,1,use_sigmoid=1)",
    "quantized_relu(4,1,negative_slope=0.25)",
    "quantized_relu(4,1,relu_upper_bound=1.5)",
    "quantized_relu(4,1,relu_upper_bound=1.5,is_quantized_clip=False)",
    "quantized_bits(4,1,alpha=1)",
    "quantized_bits(4,1,1,alpha=1)",
    "quantized_bits(4,1,keep_negative=False,alpha=1)",
    "quantized_bits(4,1)",
    "quantized_bits(4,1,alpha=0.5)",
    "quantized_bits(1,0,alpha=1)",
    "quantized_bits(4,1,alpha=0.3)",
    "quantized_bits(4,1,alpha='auto')",
    "quantized_bits(4,1,alpha='auto_po2')",
    "quantized_bits(4,1,alpha=1,qnoise_factor=0.5)",
    "quantized_po2(4,2)",
    "quantized_po2_zero(4,2)",
    "quantized_apot(2,-4,1)",
    "quantized_grid(4,2)",
    "quantized_grid(4,2,keep_negative=False)",
    "quantized_relu_po2(4,2)",
    "quantized_relu_po2(4,2,0.25)",
    "quantized_ulaw(4,1)",
    "quantized_tanh(4)",
    "quantized_tanh(4,use_real_tanh=True)",
    "quantized_sigmoid(4)",
    "quantized_sigmoid(4,use_real_sigmoid=True)",
    "quantized_hswish(6,2,alpha=1)",
    "binary(alpha=1)",
    "binary(True,alpha=1)",
    "binary()",
    "binary(alpha='auto')",
    "ternary(alpha=1,threshold=0.5)",
    "ternary(alpha='auto')",
    "stochastic_binary(alpha=1)",
    "stochastic_ternary(alpha=1)",
    "bernoulli(alpha=1)",
    "stochastic_round",
    "stochastic_round_po2",
    "my_quantizer(bits=4)",
)
QKERAS_ONLY = ("smooth_sigmoid", "hard_tanh", "smooth_tanh", "binary_sigmoid", "binary_tanh")
"""Functions that QActivation has and Activation does not."""


def quantizer_name(text: str) -> str:
    return text.partition("(")[0]


def weight_row(text: str, class_name: str = "QDense") -> Row:
    """Return the row of a weight quantizer, in a layer that has no other."""
    shape, config = WEIGHTED[class_name]
    made = row(class_name, shape, text, **{**config, **{key: text for key in QUANTIZER_KEYS if key in config}})
    return replace(made, name=quantizer_name(text), label=f"`{text}`")


def bias_row(text: str) -> Row:
    """Return a row with this quantizer for the bias."""
    shape, config = WEIGHTED["QDense"]
    made = row("QDense", shape, f"bias {text}", **{**config, "bias_quantizer": text})
    return replace(made, name=quantizer_name(text))


def _activation_row(text: str) -> Row:
    made = row("QActivation", VECTOR, text, last=True, activation=text)
    return replace(made, name=quantizer_name(text), label=f"`{text}`")


def _function_row(name: str) -> Row:
    class_name = "QActivation" if name in QKERAS_ONLY else "Activation"
    made = row(class_name, VECTOR, f"function {name}", activation=name)
    return replace(made, name=name, label=f'`{class_name}("{name}")`')


WEIGHT_ROWS: Sequence[Row] = tuple(weight_row(text) for text in WEIGHT_TEXTS)
ACTIVATION_ROWS: Sequence[Row] = tuple(_activation_row(text) for text in ACTIVATION_TEXTS)
FUNCTION_ROWS: Sequence[Row] = tuple(_function_row(name) for name in ("linear", "relu", *FUNCTIONS))
ROWS: Sequence[Row] = (*LAYER_ROWS, *TOPOLOGY_ROWS, *WEIGHT_ROWS, *ACTIVATION_ROWS, *FUNCTION_ROWS)
