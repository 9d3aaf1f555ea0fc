"""From the layers of a trained model to ops on integers, layer by layer; what has no exact form is refused by name.

In: a `TrainedModel`. Out: an extracted `IntGraph`, or all that is refused.
"""

from flow.frontend.extraction.builder import Evaluate
from flow.frontend.extraction.model import LAYERS, NO_OPS, extract, quantizes_its_input, refusals

__all__ = ["LAYERS", "NO_OPS", "Evaluate", "extract", "quantizes_its_input", "refusals"]
