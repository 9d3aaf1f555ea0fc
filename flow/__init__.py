"""po2flow: neural networks with power-of-two weights to FPGAs, bit for bit.

    import flow
    report = flow.build(model, x=x_test, y=y_test)      # a QKeras model, or a name, or a file; arrays
    print(flow.to_text(report))
    report.predict(x_new)                               # what the hardware gives

Names are loaded when they are first used: `import flow` takes milliseconds and imports neither TensorFlow nor hls4ml.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees of the names below
    from flow.backends.functions import emit as emit
    from flow.cost.hls.estimates import estimate as estimate
    from flow.data.adversarial import adversarial_inputs as adversarial_inputs
    from flow.data.datasets import load_dataset as load_dataset
    from flow.data.imagenet import load_imagenet_folder as load_imagenet_folder
    from flow.data.kitti import load_kitti as load_kitti
    from flow.data.own import SplitSpec as SplitSpec
    from flow.data.own import prepared as prepared
    from flow.errors import FlowError as FlowError
    from flow.exploration.found import Exploration as Exploration
    from flow.exploration.search import explore as explore
    from flow.frontend.extraction import extract as extract
    from flow.frontend.trained import TrainedModel as TrainedModel
    from flow.frontend.trained import load_trained as load_trained
    from flow.ir import reference
    from flow.ir.fixed import FixedFormat as FixedFormat
    from flow.ir.fixed import Overflow as Overflow
    from flow.ir.fixed import Rounding as Rounding
    from flow.ir.graph import IntGraph as IntGraph
    from flow.ir.passes import lower as lower
    from flow.pipeline import BuildOptions as BuildOptions
    from flow.pipeline import QuantizeOptions as QuantizeOptions
    from flow.pipeline import bitstream as bitstream
    from flow.pipeline import build as build
    from flow.pipeline import check as check
    from flow.pipeline import compare_run as compare_run
    from flow.pipeline import export as export
    from flow.pipeline import load_report as load_report
    from flow.pipeline import quantize as quantize
    from flow.pipeline.encryption import encrypt as encrypt
    from flow.pipeline.training import load_history as load_history
    from flow.pipeline.training import train_model as train_model
    from flow.quantization.settings import QuantSettings as QuantSettings
    from flow.report.text import to_markdown as to_markdown
    from flow.report.text import to_text as to_text
    from flow.target import Target as Target
    from flow.train.cost_in_loss import LutCost as LutCost
    from flow.train.learned import LearnedSteps as LearnedSteps
    from flow.train.pruning import Pruning as Pruning
    from flow.train.qkerasify import qkerasify as qkerasify
    from flow.train.reader import read_keras as read_keras
    from flow.train.spec import DistillSpec as DistillSpec
    from flow.train.spec import list_models as list_models
    from flow.train.spec import load_spec as load_spec

    run_reference = reference.run

_WHERE = {
    "build": "flow.pipeline",
    "quantize": "flow.pipeline",
    "QuantizeOptions": "flow.pipeline",
    "QuantSettings": "flow.quantization.settings",
    "check": "flow.pipeline",
    "compare_run": "flow.pipeline",
    "export": "flow.pipeline",
    "encrypt": "flow.pipeline.encryption",
    "bitstream": "flow.pipeline",
    "load_report": "flow.pipeline",
    "BuildOptions": "flow.pipeline",
    "to_text": "flow.report.text",
    "to_markdown": "flow.report.text",
    "load_spec": "flow.train.spec",
    "list_models": "flow.train.spec",
    "load_dataset": "flow.data.datasets",
    "load_imagenet_folder": "flow.data.imagenet",
    "load_kitti": "flow.data.kitti",
    "prepared": "flow.data.own",
    "SplitSpec": "flow.data.own",
    "TrainedModel": "flow.frontend.trained",
    "load_trained": "flow.frontend.trained",
    "extract": "flow.frontend.extraction",
    "lower": "flow.ir.passes",
    "IntGraph": "flow.ir.graph",
    "FixedFormat": "flow.ir.fixed",
    "Rounding": "flow.ir.fixed",
    "Overflow": "flow.ir.fixed",
    "run_reference": "flow.ir.reference",
    "adversarial_inputs": "flow.data.adversarial",
    "estimate": "flow.cost.hls.estimates",
    "emit": "flow.backends.functions",
    "Target": "flow.target",
    "train_model": "flow.pipeline.training",
    "Pruning": "flow.train.pruning",
    "DistillSpec": "flow.train.spec",
    "load_history": "flow.pipeline.training",
    "LutCost": "flow.train.cost_in_loss",
    "LearnedSteps": "flow.train.learned",
    "read_keras": "flow.train.reader",
    "qkerasify": "flow.train.qkerasify",
    "explore": "flow.exploration.search",
    "Exploration": "flow.exploration.found",
    "FlowError": "flow.errors",
}
_RENAMED = {"run_reference": "run"}

__all__ = sorted(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'flow' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
