"""Learned wires: while tables train, each gives up its smallest inputs for those that would help most.

Of a few samples the gradient of what a hidden unit adds up says how much a weight at each possible input would matter
(Evci et al., RigL, arXiv 1911.11134). How many are exchanged falls along a cosine; then the wires stay. What is drawn
depends on the seed and the step alone, so a training that goes on draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.train import load_tensorflow
from flow.train.tables import Tables

tf: Any
keras: Any
tf, keras, _ = load_tensorflow()

SAMPLES = 512
EXCHANGED, UNTIL = 0.34, 0.6
"""The fraction of wires at first, and until which part of the training."""
PER_EPOCH = 3
AMONG = 3
"""A new wire is drawn among so many times those that are needed, the best, so that tables differ."""
NEW_WEIGHT = 0.15
VARIES = 0.1
"""An input whose standard deviation is less is not wired at first."""


class Rewiring(keras.callbacks.Callback):  # type: ignore[misc]
    """Exchange wires of the tables of a model during `fit`.

    Args:
        inputs: (samples, ...) of the training split.
        targets: as `fit` takes them.
        epochs: how many are trained.
        seed: of what is drawn.
    """

    def __init__(self, inputs: NDArray[np.float32], targets: Any, epochs: int, seed: int) -> None:
        super().__init__()
        self.inputs, self.targets, self.epochs, self.seed = inputs, targets, epochs, seed

    def on_train_begin(self, logs: Any = None) -> None:
        """Wire what varies, before the first step."""
        self.layers = [layer for layer in self.model.layers if isinstance(layer, Tables)]
        if int(self.model.optimizer.iterations) == 0:
            for layer in self.layers:
                self._seen(np.random.default_rng(self.seed))
                varies = np.flatnonzero(np.asarray(tf.math.reduce_std(layer.seen[0], 1)) > VARIES)
                if len(varies) >= layer.fan_in:
                    layer.wires.assign(layer.wired(varies))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Exchange wires if it is time."""
        step, steps = int(self.model.optimizer.iterations), self.params["steps"]
        done = step / (UNTIL * self.epochs * steps)
        if step and step % max(1, steps // PER_EPOCH) == 0 and done < 1:
            self._exchange(np.random.default_rng((self.seed, step)), EXCHANGED * (1 + math.cos(math.pi * done)) / 2)

    def _seen(self, random: np.random.Generator) -> Sequence[Any]:
        """Return for each layer of tables the gradient of what its hidden units add up, of some samples."""
        drawn = np.sort(random.choice(len(self.inputs), min(SAMPLES, len(self.inputs)), replace=False))
        x = tf.constant(self.inputs[drawn])
        y = tf.nest.map_structure(lambda target: tf.constant(target[drawn]), self.targets)
        for layer in self.layers:
            layer.watched = True
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x, y, self.model(x, training=True), None)
        for layer in self.layers:
            layer.watched = False
        gradients: Sequence[Any] = tape.gradient(loss, [layer.seen[1] for layer in self.layers])
        return gradients

    def _exchange(self, random: np.random.Generator, fraction: float) -> None:
        gradients = self._seen(random)
        for layer, gradient in zip(self.layers, gradients, strict=True):
            wanted = fraction * layer.fan_in
            count = int(wanted) + int(random.random() < wanted - int(wanted))
            if count and not layer.tree:
                self._exchange_of(layer, gradient, count, random)

    def _exchange_of(self, layer: Tables, gradient: Any, count: int, random: np.random.Generator) -> None:
        wires, first = layer.wires.numpy().copy(), layer.first.numpy().copy()
        worth = _worth(layer.seen[0], gradient)
        np.put_along_axis(worth, wires, -1.0, 1)
        among = min(AMONG * count, worth.shape[1] - layer.fan_in)
        if among < count:
            return
        best = np.argpartition(-worth, among - 1, 1)[:, :among]
        grown = np.take_along_axis(best, np.argsort(random.random(best.shape), 1)[:, :count], 1)
        dropped = np.argsort(np.abs(first).sum(1), 1)[:, :count]
        np.put_along_axis(wires, dropped, grown.astype(wires.dtype), 1)
        new = random.normal(size=(layer.units, layer.hidden, count)) * NEW_WEIGHT
        np.put_along_axis(first, np.repeat(dropped[:, None], layer.hidden, 1), new.astype(first.dtype), 2)
        layer.wires.assign(wires)
        layer.first.assign(first)


def _worth(bits: Any, gradient: Any) -> NDArray[np.float32]:
    """Return (units, features): how much a weight of each unit at each feature would change the loss."""
    varying = bits - tf.reduce_mean(bits, 1, keepdims=True)
    units, hidden, samples = gradient.shape
    of_weights = tf.matmul(tf.reshape(gradient, (units * hidden, samples)), varying, transpose_b=True)
    return tf.norm(tf.reshape(of_weights, (units, hidden, -1)), axis=1).numpy().copy()  # type: ignore[no-any-return]
