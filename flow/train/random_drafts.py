"""Random models while they are drawn: the layers so far, and random quantizers for the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The output of a layer: its name, the shape of one sample, and which use of the layer made it."""

    name: str
    shape: Shape
    node: int = 0


@dataclass(slots=True)
class Draft:
    """A model while it is drawn."""

    rng: np.random.Generator
    entries: list[dict[str, Any]] = field(default_factory=list)

    def pick(self, choices: Sequence[Any]) -> Any:
        """Return one of several."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        """Say yes so often."""
        return bool(self.rng.random() < probability)

    def input(self) -> Tensor:
        """Add an input of one to three axes."""
        shape = self.pick(
            [
                (int(self.rng.integers(1, 9)),),
                (int(self.rng.integers(1, 8)), int(self.rng.integers(1, 4))),
                *[(int(self.rng.integers(1, 7)), int(self.rng.integers(1, 7)), int(self.rng.integers(1, 4)))] * 2,
            ]
        )
        return self.add("InputLayer", [], shape, batch_input_shape=[None, *shape], dtype="float32")

    def add(self, class_name: str, sources: Sequence[Tensor], shape: Shape, **config: Any) -> Tensor:
        """Add a layer that reads some tensors and makes one of this shape."""
        name = f"{class_name.lower()}_{len(self.entries)}"
        node = [[source.name, source.node, 0, {}] for source in sources]
        self.entries.append(
            {
                "class_name": class_name,
                "name": name,
                "config": {"name": name, **config},
                "inbound_nodes": [node] if sources else [],
            }
        )
        return Tensor(name, shape)

    def weight_quantizer(self) -> str:
        """Return a quantizer of weights."""
        bits = int(self.rng.integers(2, 7))
        return str(
            self.pick(
                [
                    f"quantized_bits({bits},{int(self.rng.integers(0, 2))},1,alpha=1)",
                    f"quantized_bits({bits},0,0,alpha=1)",
                    f"quantized_bits({bits},0,1,alpha='auto_po2')",
                    f"quantized_bits({bits},0,1)",
                    f"quantized_bits({bits},1,0,False,alpha=1)",
                    f"quantized_bits({bits},0,1,alpha=0.5)",
                    "quantized_bits(1,0,alpha=1)",
                    "quantized_po2(4,1)",
                    "quantized_po2(3,2)",
                    "quantized_po2(4,1,quadratic_approximation=True)",
                    "quantized_relu_po2(4,2)",
                    "binary(alpha=1)",
                    "binary(True,alpha=1)",
                    "ternary(alpha=1)",
                    "stochastic_ternary(alpha=1)",
                    "stochastic_binary(alpha=1)",
                ]
            )
        )

    def bias(self) -> dict[str, Any]:
        """Return what a layer's configuration says of its bias."""
        if self.chance(0.2):
            return {"use_bias": False}
        return {
            "use_bias": True,
            "bias_quantizer": self.pick([None, "quantized_bits(5,1,alpha=1)", "quantized_po2(4,1)"]),
        }

    def cast(self) -> str:
        """Return a quantizer of activations that rounds to a format."""
        bits = int(self.rng.integers(1, 8))
        integer = int(self.rng.integers(0, 4))
        return str(
            self.pick(
                [
                    f"quantized_relu({bits},{integer})",
                    f"quantized_relu({bits},{integer})",
                    f"quantized_bits({bits + 1},{integer},alpha=1)",
                    f"quantized_bits({bits + 1},{integer},1,alpha=1)",
                    f"quantized_bits({bits + 1},{integer},0,False,alpha=1)",
                ]
            )
        )

    def other_quantizer(self) -> str:
        """Return a quantizer of activations that a table or a threshold computes."""
        bits = int(self.rng.integers(2, 7))
        return str(
            self.pick(
                [
                    f"quantized_relu({bits},1,negative_slope=0.25)",
                    f"quantized_relu({bits},1,use_sigmoid=1)",
                    f"quantized_relu({bits},2,relu_upper_bound=1.5,is_quantized_clip=False)",
                    f"quantized_tanh({bits})",
                    f"quantized_tanh({bits},symmetric=True)",
                    f"quantized_tanh({bits},use_real_tanh=True)",
                    f"quantized_sigmoid({bits})",
                    f"quantized_hswish({bits},2,alpha=1)",
                    f"quantized_relu_po2({max(bits, 3)},4)",
                    f"quantized_po2({max(bits, 3)},4)",
                    "binary(alpha=1)",
                    "binary(True,alpha=1)",
                    "ternary(alpha=1,threshold=0.5)",
                    "stochastic_ternary(alpha=1)",
                    "quantized_bits(1,0,alpha=1)",
                    "quantized_bits(4,1,alpha=2.0)",
                ]
            )
        )

    def quantizer(self, source: Tensor) -> Tensor:
        """Add a quantizer of activations that rounds to a format."""
        return self.add("QActivation", [source], source.shape, activation=self.cast())
