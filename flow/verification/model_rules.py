"""Rules about a model before it is a graph: its inputs, and what of it has no exact integer form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flow.errors import FlowError, UnsupportedError
from flow.findings import ERROR, WARNING, Hit, Rule
from flow.frontend.base import Evaluate
from flow.frontend.extraction import Extraction, attempt, quantizes_its_input
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import FixedFormat
from flow.ir.passes import lower

STAND_IN = FixedFormat(False, 0, 8)
"""Format of ports that nothing says the format of, while the rest of the model is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model before it is a graph.

    Attributes:
        trained: the model.
        input_format: format of the ports that the model does not quantize; None if nothing says it.
        derived: whether that format was derived from inputs.
        softmax, evaluate: as `flow.frontend.extraction.attempt` takes them.
        made: what extraction makes of it.
    """

    trained: TrainedModel
    input_format: FixedFormat | None = None
    derived: bool = False
    softmax: FixedFormat | None = None
    evaluate: Evaluate | None = None
    made: Extraction | None = None

    def extracted(self) -> Model:
        """Return the model with what extraction makes of it; a port that nothing says the format of gets a stand-in."""
        unknown = self.input_format is None and not quantizes(self.trained)
        fmt = STAND_IN if unknown else self.input_format
        return replace(self, made=attempt(self.trained, fmt, softmax=self.softmax, evaluate=self.evaluate))


def _no_input_format(model: Model) -> Iterator[Hit]:
    """The model does not quantize its input, and nothing says which format its port has."""
    if model.input_format is None and not quantizes(model.trained):
        reason = "the model does not quantize its input, so its port has no format"
        yield Hit("", reason, "give --input-format, or --inputs to derive it from, or begin with a QActivation")


def _derived_input_format(model: Model) -> Iterator[Hit]:
    """The port's format comes from sample inputs: others may be rounded or clipped."""
    if model.derived and not quantizes(model.trained):
        reason = f"the model does not quantize its input; its port got {model.input_format} from the inputs given"
        yield Hit("", reason, "begin the model with a QActivation, or state the format with --input-format")


def quantizes(trained: TrainedModel) -> bool:
    """Say whether a model quantizes its input; one whose layers cannot be connected is refused for that alone."""
    try:
        return quantizes_its_input(trained)
    except UnsupportedError:
        return True


def _refused(model: Model) -> Iterator[Hit]:
    """A layer, a quantizer or a value has no exact integer form."""
    assert model.made is not None
    yield from map(Hit.of, model.made.refusals)
    if model.made.graph is not None:
        try:
            lower(model.made.graph)
        except FlowError as error:
            yield Hit.of(error)


MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule("input-not-quantized", ERROR, "docs/numerics.md, The input port", _no_input_format),
    Rule("input-format-derived", WARNING, "docs/numerics.md, The input port", _derived_input_format),
    Rule("unsupported", ERROR, "flow/frontend/extraction/: what is exact is converted, the rest refused", _refused),
)
