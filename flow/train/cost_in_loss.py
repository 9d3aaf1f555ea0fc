"""Cost in the loss: the estimated LUTs of a Keras model as a term of its loss, under which formats are learned."""

from __future__ import annotations

from typing import Any

from flow.errors import SpecError, shown
from flow.train import load_tensorflow
from flow.train.kernels import kernel_of
from flow.train.learned import GRANULARITIES, learn, learned_formats, settle
from flow.train.lut_cost import IO_TYPES, Features

keras: Any
tf, keras, _ = load_tensorflow()


class LutCost(keras.callbacks.Callback):  # type: ignore[misc]
    """Estimated LUTs in the loss of a model: zeros, sizes of weights and formats of activations are learned under it.

    Each LUT adds `weight` to the loss from `begin_epoch` to `end_epoch`. After that zeros and formats stay, and the
    model trains on with what it has. To meet a number of LUTs, put `Pruning(luts=...)` beside it.

    Args:
        model: a built Keras model; its loss has the term from now on. Compile it afterwards.
        weight: loss for each LUT.
        io_type: "io_parallel" or "io_stream", as of the target that it is built for.
        begin_epoch, end_epoch: as above.
        formats: whether bits of activations are learned too, where they are `quantized_relu` or `quantized_bits`. After
            each `fit` they are these again, with the bits that were found.
        kernels: "layer" or "channel" if the bits of kernels under a `quantized_grid` or a `quantized_bits` with alpha=1
            are learned too; they have a `quantized_grid` then.

    Raises:
        SpecError: an argument is out of range.
        UnsupportedError: the model has no kernel.

    Example:
        >>> cost = LutCost(model, 5e-5, end_epoch=30)  # doctest: +SKIP
        >>> model.compile("adam", loss); model.fit(x, y, epochs=40, callbacks=[cost])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        weight: float,
        *,
        io_type: str = IO_TYPES[0],
        begin_epoch: float = 0,
        end_epoch: float = 10,
        formats: bool = True,
        kernels: str = "",
    ) -> None:
        super().__init__()
        if not weight > 0:
            raise SpecError(f"weight is {shown(weight)}", remedy="expected a number above 0")
        if not 0 <= begin_epoch < end_epoch:
            raise SpecError(f"begin_epoch {begin_epoch} is not before end_epoch {end_epoch}")
        if kernels not in ("", *GRANULARITIES):
            raise SpecError(f"kernels is {shown(kernels)}", remedy=f"expected {' or '.join(GRANULARITIES)}")
        self.features, self.epochs = Features(model, io_type), (begin_epoch, end_epoch)
        self.layers = {layer.name: layer for _, layer in self.features.layers}
        learned = learned_formats(list(self.layers.values()), kernels=kernels)
        self.formats = {
            name: each for name, each in learned.items() if formats or kernel_of(self.layers[name]) is not None
        }
        self.given, self.weight = weight, tf.Variable(0.0, trainable=False, name="lut_weight")
        self.held: list[tuple[Any, Any, Any]] = []
        model.add_loss(self._term)

    def _term(self) -> Any:
        return self.weight * self.features.luts()

    def on_train_begin(self, logs: Any = None) -> None:
        """Let formats be learned while the model trains."""
        self.steps = self.params.get("steps") or 1
        for name, learned in self.formats.items():
            learn(self.layers[name], learned)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the weight of this step, or hold what is to stay."""
        done, (begin, end) = int(self.model.optimizer.iterations) / self.steps, self.epochs
        if done >= end:
            self._hold()
        else:
            self.weight.assign(self.given if done >= begin else 0.0)

    def _hold(self) -> None:
        """Keep zeros and formats as they are from now on."""
        if not self.held:
            self.weight.assign(0.0)
            for kernel in self.features.kernels():
                nonzero = tf.cast(tf.reshape(kernel.quantized(), kernel.variable.shape) != 0, tf.float32)
                self.held.append((kernel.variable, nonzero, 0.0))
            for learned in self.formats.values():
                top, fraction = (tf.constant(bits) for bits in learned.bits_of())
                self.held += [(learned.top, 0.0, top), (learned.fraction, 0.0, fraction)]
        for variable, factor, value in self.held:
            variable.assign(variable * factor + value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Say what is estimated."""
        if self.held:
            self._hold()
        if logs is not None:
            logs["luts"] = float(self.features.luts())

    def on_train_end(self, logs: Any = None) -> None:
        """Leave a model of QKeras' own quantizers."""
        for name, learned in self.formats.items():
            settle(self.layers[name], learned)
        self.model.predict_function = None
