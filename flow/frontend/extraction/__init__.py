"""From a trained model to an IntGraph: exact, or refused by the name of the layer."""

from flow.frontend.extraction.builder import Evaluate
from flow.frontend.extraction.model import LAYERS, NO_OPS, extract, quantizes_its_input, refusals

__all__ = ["LAYERS", "NO_OPS", "Evaluate", "extract", "quantizes_its_input", "refusals"]
