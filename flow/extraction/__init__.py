"""From a trained model to an IntGraph: exact, or refused by the name of the layer."""

from flow.extraction.builder import Evaluate
from flow.extraction.model import LAYERS, NO_OPS, extract, quantizes_its_input, refusals

__all__ = ["LAYERS", "NO_OPS", "Evaluate", "extract", "quantizes_its_input", "refusals"]
