"""docs/support.md as text: what becomes of each row of `support_rows` on each back end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from fixtures_keras import keras, qkeras
from keras_configs import layer, model, port
from support_rows import ACTIVATION_ROWS, FUNCTION_ROWS, LAYER_ROWS, TOPOLOGY_ROWS, WEIGHT_ROWS, WEIGHTED, Row

from flow.backends.base import BACKENDS
from flow.backends.functions import Design, functions
from flow.backends.hls4ml.dialects import DIALECTS
from flow.data.inputs import parse_format
from flow.errors import ModelFileError, UnsupportedError
from flow.findings import ERROR
from flow.frontend.extraction import extract
from flow.frontend.keras import LAYERS
from flow.frontend.keras.topology import TIME_DISTRIBUTED
from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph, Lookup
from flow.ir.passes import lower
from flow.ir.tables import TABLE_INPUT_BITS
from flow.project import Project
from flow.target import IO_TYPES, STRATEGIES, Target
from flow.train.functions import evaluate
from flow.train.reader import KerasModel
from flow.train.recipes import from_recipe
from flow.verification.preflight import design_rules

EXACT, VENDOR, REFUSED = "exact", "needs vendor", "no"
TARGETS = [
    Target(backend=backend, io_type=io_type, strategy=strategy)
    for backend, io_type, strategy in product(BACKENDS, IO_TYPES, STRATEGIES)
    if strategy in BACKENDS[backend].strategies
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What became of a row before any back end.

    Attributes:
        row: the row.
        reason: why it is refused for every back end; empty if it is not.
        source: the Keras model with its values, and the graphs made of it; None if it is refused.
        extracted, lowered: its graph before and after the passes.
    """

    row: Row
    reason: str = ""
    source: KerasModel | None = None
    extracted: IntGraph | None = None
    lowered: IntGraph | None = None


@cache
def made(row: Row) -> Made:
    """Return a row's model as graphs, or the reason why there are none."""
    try:
        source = _keras_model(row)
        fmt, softmax = (parse_format(text) if text else None for text in (row.recipe.input_format, row.softmax))
        extracted = extract(source.trained, fmt, softmax=softmax, evaluate=evaluate)
    except UnsupportedError as error:
        return Made(row=row, reason=str(UnsupportedError(error.reason, remedy=error.remedy)))
    return Made(row=row, source=source, extracted=extracted, lowered=lower(extracted))


def _keras_model(row: Row) -> KerasModel:
    """Return the model; one that Keras itself cannot make must be refused by its configuration."""
    try:
        return from_recipe(row.recipe)
    except ModelFileError:
        config = row.recipe.config
        trained = TrainedModel(name=row.recipe.name, class_name="Functional", config=config, weights={})
        extract(trained, evaluate=evaluate)
        raise


def refusal(found: Made, target: Target) -> str:
    """Return why a row is refused on a target, or nothing."""
    if found.reason:
        return found.reason
    assert found.source and found.extracted and found.lowered
    trained, extracted, lowered = found.source.trained, found.extracted, found.lowered
    design = Design(trained=trained, extracted=extracted, lowered=lowered, target=target)
    errors = [rule for rule in design_rules(target) if rule.severity == ERROR]
    return next((str(finding) for rule in errors for finding in rule.apply(design)), "")


def emitted(found: Made, target: Target) -> Project:
    """Return the project of a row."""
    assert found.lowered
    return functions(target).emit(found.lowered, target)


# -- text


@dataclass(frozen=True, slots=True)
class Notes:
    """Reasons of refusals, numbered as they come."""

    numbers: dict[str, int]

    def refused(self, reason: str, backend: str) -> str:
        """Return the text of a cell that is refused."""
        reason = reason.replace(backend, "BACKEND") if backend in DIALECTS else reason
        return f"{REFUSED} [{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"


def _io_types(backend: str) -> Sequence[str]:
    """Return what a back end has at all; `DIALECTS` refuses the rest for any graph."""
    return DIALECTS[backend].io_types if backend in DIALECTS else IO_TYPES


def _cell(found: Made, backend: str, notes: Notes) -> str:
    """Return what a back end makes of a row: one word, or one for each io_type."""
    words = []
    for io_type in _io_types(backend):
        targets = [target for target in TARGETS if (target.backend, target.io_type) == (backend, io_type)]
        reasons = {refusal(found, target) for target in targets}
        assert len(reasons) == 1, f"{found.row.label}: strategies of {backend} differ: {reasons}"
        reason = reasons.pop()
        fine = VENDOR if functions(targets[0]).not_simulated(targets[0]) else EXACT
        words.append(notes.refused(reason, backend) if reason else fine)
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def _table(first: str, rows: Sequence[Row], notes: Notes, *, becomes: bool = False) -> Iterator[str]:
    """Yield the lines of a table: rows by back ends."""
    heads = [first, *(["becomes"] if becomes else []), *BACKENDS]
    yield from ("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads))
    for row in rows:
        found = made(row)
        kind = [_becomes(found)] if becomes else []
        cells = [row.label.replace("|", "\\|"), *kind, *(_cell(found, backend, notes) for backend in BACKENDS)]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _becomes(found: Made) -> str:
    """Return what a quantizer or function becomes in the graph."""
    if found.lowered is None:
        return "-"
    return "a table" if any(isinstance(op, Lookup) for op in found.lowered.ops) else "a cast"


def other_layers() -> list[str]:
    """Return the layers of Keras and QKeras that are not in `LAYERS`: each is refused by name."""
    found = set()
    for module in (keras.layers, qkeras):
        classes = (value for value in vars(module).values() if isinstance(value, type))
        found |= {cls.__name__ for cls in classes if issubclass(cls, keras.layers.Layer)}
    names = sorted(found - set(LAYERS) - {TIME_DISTRIBUTED, "Layer", "Model", "Functional", "Sequential"})
    for name in names:
        try:
            extract(model(port(4), layer(name, "subject")), parse_format("fixed<4,2>"))
        except UnsupportedError as error:
            assert f"layer 'subject': {name} is not supported; " in str(error), name
        else:
            raise AssertionError(f"{name} is accepted and has no row")
    return names


def document() -> str:
    """Return docs/support.md."""
    notes = Notes({})
    lines = [*HEAD.splitlines(), ""]
    lines += [*_table("layer", LAYER_ROWS, notes)]
    lines += [*_wrapped("Refused by name, for every back end: ", other_layers()), ""]
    lines += ["## Topology", "", *_table("model", TOPOLOGY_ROWS, notes)]
    lines += [*WEIGHT_HEAD.splitlines(), *_wrapped("for biases and for the kernels of ", list(WEIGHTED)), ""]
    lines += [*_table("weight quantizer", WEIGHT_ROWS, notes)]
    lines += [*ACTIVATION_HEAD.format(bits=TABLE_INPUT_BITS).splitlines(), ""]
    lines += [*_table("activation quantizer", ACTIVATION_ROWS, notes, becomes=True)]
    lines += [*FUNCTION_HEAD.splitlines(), "", *_table("function", FUNCTION_ROWS, notes, becomes=True)]
    lines += ["## Why not", "", "`BACKEND` stands for the back end of the column.", ""]
    lines += [f"{number}. {_escaped(reason)}" for reason, number in notes.numbers.items()]
    return "\n".join(lines) + "\n"


def _wrapped(before: str, names: Sequence[str]) -> list[str]:
    """Return a list of names in lines."""
    return textwrap.wrap(before + ", ".join(f"`{name}`" for name in names) + ".", 120, break_on_hyphens=False)


def _escaped(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    for mark in ("<", "*", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text


HEAD = """\
# What is supported

Made by `pytest tests/backends/test_support.py --update-golden`, never by hand: each row is a tiny QKeras model (a port,
its quantizer, the layer, a quantizer behind it) that was extracted, lowered and put before each back end. The rows are
in `tests/support_rows.py`.

| a cell says | |
|---|---|
| exact | emitted, and simulated as C++ or as Verilog; simulation, the reference and QKeras agree on every code |
| needs vendor | emitted and read back; its C simulation needs headers that only the vendor has |
| no [n] | refused before anything is written; why and what to do stands under number n at the end |

Two answers in a cell are for `io_parallel` / `io_stream`; Libero has `io_parallel` only. Where a back end has two
strategies, the answers hold for both.

## Layers"""

WEIGHT_HEAD = """\
## Weight quantizers

As the kernel quantizer of a `QDense`. Weights are what the quantizer makes of the variables, so answers also hold"""

ACTIVATION_HEAD = """\
## Activation quantizers

In a `QActivation`, and so as the `activation` of any layer. A cast is fused into the dense, convolution or merge before
it; a table holds QKeras' own result for each code of its input, behind more than {bits}
bits as thresholds."""

FUNCTION_HEAD = """\
## Functions

With a quantizer behind them: function and quantizer become one table together."""
