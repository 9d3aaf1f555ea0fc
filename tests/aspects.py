"""The tables that say what an op is: one line each. tests/ir/test_ops.py holds them complete, docs list them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from flow.ir.graph import Op


class Aspect(NamedTuple):
    """A table `type[Op] -> function`, without a default.

    Attributes:
        module, table: where it stands.
        says: what a row of it says about an op.
        aside: name of the tuple beside it of ops that this is never asked of; empty if it is asked of all.
    """

    module: str
    table: str
    says: str
    aside: str = ""

    def rows(self) -> dict[type[Op], Any]:
        """Return the table."""
        return dict(getattr(import_module(self.module), self.table))

    def not_asked(self) -> tuple[type[Op], ...]:
        """Return the ops that have no row, and need none."""
        return tuple(getattr(import_module(self.module), self.aside)) if self.aside else ()


# fmt: off
ASPECTS = (
    Aspect("flow.ir.checks", "READS", "how many inputs it reads"),
    Aspect("flow.ir.checks", "SHAPES", "the shape of its output, and what must hold between it and its inputs"),
    Aspect("flow.ir.forms", "TEXTS", "how it reads in the text of a graph"),
    Aspect("flow.ir.steps", "STEPS", "what it computes: its meaning", "GIVEN"),
    Aspect("flow.ir.intervals", "BOUNDS", "how far its exact result goes, and on which grid"),
    Aspect("flow.ir.passes.fuse_requantize", "TAKES", "what of the ReLU and the cast behind it becomes its own"),
    Aspect("flow.ir.passes.fuse_requantize", "TIED", "whether it is made for the format of its input"),
    Aspect("flow.quantization.floats", "NUMBERS", "which of its fields are real in a float graph", "INTEGER_ONLY"),
    Aspect("flow.quantization.evaluation", "RESULTS", "what it computes on real numbers", "NOT_EVALUATED"),
    Aspect("flow.quantization.evaluation", "REACHES", "how fine and large its result can be", "NOT_EVALUATED"),
    Aspect("flow.quantization.restructuring", "SCALES", "whether it passes a factor per channel on", "READS_NOTHING"),
    Aspect("flow.quantization.modules", "EXACT", "whether it gives codes for codes, unrounded", "INTEGER_ONLY"),
    Aspect("flow.quantization.modules", "ABSORBS", "whether it shares the accumulator of its input", "READS_NOTHING"),
    Aspect("flow.quantization.modules", "NEVER_NEGATIVE", "whether its result is never negative", "INTEGER_ONLY"),
    Aspect("flow.quantization.sweep", "EXACT_FORMATS", "the format of its output if it rounds nothing", "INEXACT"),
    Aspect("flow.quantization.assembly", "ASSEMBLED", "how it gets its codes when quantized", "MADE_APART"),
    Aspect("flow.train.graph_model", "LAYERS", "which layers of Keras compute it, to be trained on", "NOT_MADE"),
    Aspect("flow.verification.causes", "CAUSES", "which settings may explain a divergence"),
    Aspect("flow.verification.faults", "FAULTS", "which single numbers may explain a divergence", "WITHOUT_NUMBERS"),
    Aspect("flow.cost.energy", "WORK", "what it computes for one inference, for its energy"),
    Aspect("flow.cost.estimation", "COSTS", "what it takes on hardware: adders, LUTs, memory, cycles", "FREE"),
    Aspect("flow.encrypted.plan", "STAGES", "what it takes under encryption: tables and rounds", "GIVEN"),
    Aspect("flow.cost.hls.kernels", "MADE", "what C synthesis makes of it", "FREE"),
    Aspect("flow.cost.streams", "ORDERS", "in which order it reads and writes the words of streams", "OTHER_KERNELS"),
    Aspect("flow.backends.hls4ml.kernels", "KERNELS", "the kernel of `nnet_flow.h` that computes it", "WITHOUT_KERNEL"),
    Aspect("flow.backends.hls4ml.layers", "LAYERS", "what hls4ml is told of it", "WITHOUT_LAYER"),
    Aspect("flow.backends.hls4ml.readback", "CALLS", "what is read back of hls4ml's call", "WITHOUT_CALL"),
    Aspect("flow.backends.hls4ml.refusals", "FORMS", "in which forms no back end of hls4ml takes it"),
    Aspect("flow.backends.rtl.verilog.kernels", "NETLISTS", "its netlist at one position of its output", "OUTSIDE"),
    Aspect("flow.backends.rtl.verilog.kernels", "PLACES", "which codes each position reads", "OUTSIDE"),
    Aspect("flow.backends.rtl.verilog.stages", "STAGES", "its module in a stream of pixels", "OUTSIDE"),
    Aspect("flow.backends.rtl.proof.definition", "LAYOUTS", "which codes each position reads, for the proof",
           "OUTSIDE"),
    Aspect("flow.backends.rtl.proof.definition", "DEFINITIONS", "what a position computes, for the proof", "OUTSIDE"),
    Aspect("flow.backends.rtl.proof.wiring", "WIRINGS", "what its stage in a stream must be wired of", "OUTSIDE"),
)
# fmt: on
