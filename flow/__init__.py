"""po2flow: neural networks with power-of-two weights to FPGAs, bit for bit.

    import flow
    report = flow.build("digits_mlp", target=flow.Target(io_type="io_stream"))
    print(flow.to_text(report))

Names are loaded when they are first used: `import flow` takes milliseconds and imports neither TensorFlow nor hls4ml.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "build": "flow.pipeline",
    "quantize": "flow.pipeline",
    "QuantizeOptions": "flow.pipeline",
    "QuantSettings": "flow.quantization.settings",
    "compare_run": "flow.pipeline",
    "BuildOptions": "flow.pipeline",
    "to_text": "flow.report.text",
    "to_markdown": "flow.report.text",
    "load_spec": "flow.train.spec",
    "list_models": "flow.train.spec",
    "load_dataset": "flow.data.datasets",
    "load_imagenet_folder": "flow.data.imagenet",
    "load_kitti": "flow.data.kitti",
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
    "estimate": "flow.cost.estimation",
    "emit": "flow.backends.hls4ml.emit",
    "Target": "flow.target",
    "train_model": "flow.train.fit",
    "read_keras": "flow.train.reader",
    "FlowError": "flow.errors",
}
_RENAMED = {"run_reference": "run", "train_model": "train"}

__all__ = sorted(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'flow' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
