"""From the layers of a network to ops on integers, layer by layer; what has no exact form is refused by name.

In: a `TrainedModel`. Out: an extracted `IntGraph`, or all that is refused.
"""

from flow.frontend.base import Evaluate
from flow.frontend.extraction.model import LAYERS, Extraction, attempt, extract, quantizes_its_input

__all__ = ["LAYERS", "Evaluate", "Extraction", "attempt", "extract", "quantizes_its_input"]
