"""Pruning while a Keras model trains: a callback, for any model whose layers have kernels.

A pruned weight is a zero in the kernel: the model has no other layers, variables or masks than before. What a
checkpoint must hold is therefore the model and its optimizer, and what is saved is what was trained.

Masks are made at steps that a schedule of tfmot names, as tfmot's own wrapper makes them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import SpecError, shown
from flow.train import load_pruning, load_tensorflow
from flow.train.freeze import layers_by_path
from flow.train.kernels import Kernel, kernel_of
from flow.train.patterns import (
    ALLOCATIONS,
    CHANNELS,
    WEIGHTS,
    Kept,
    Layout,
    Scores,
    chosen,
    comparable,
    counts_itself,
    parse_pattern,
)

keras: Any
tf, keras, _ = load_tensorflow()

UPDATES_PER_EPOCH = 4
WHOLE_WAY = 0.5
"""What a schedule says at its end where a budget, and no sparsity, is led to its goal."""
SEED = 2.0**-20
"""What a weight that grows begins with, against its gradient: no zero, and of no effect."""


@dataclass(slots=True)
class Pruned:
    """A kernel that is pruned.

    Attributes:
        layer, name: the layer, and its path in the model.
        kernel: the variable.
        layout: of the pattern.
        schedule: tfmot's, whose sparsity is that of the units.
        others: variables of one number for each neuron that go with it.
        mask: which weights stay.
    """

    layer: Any
    name: str
    kernel: Any
    layout: Layout
    schedule: Any
    others: list[Any] = field(default_factory=list)
    mask: Any = None

    def of_units(self, values: Any) -> Scores:
        """Return the score of each unit by the magnitudes of some values of the kernel's shape."""
        return self.layout.scores(np.abs(np.asarray(values, np.float64)).reshape(self.layout.unit.shape))

    def counts(self, step: int) -> NDArray[np.int64]:
        """Return how many units of each group stay at a step."""
        return self.layout.counts(float(self.schedule(tf.constant(step, tf.int64))[1]))


class Pruning(keras.callbacks.Callback):  # type: ignore[misc]
    """Prune kernels during `fit`, by a pattern and a schedule.

    Args:
        sparsity: fraction of units (weights, blocks, channels) that become zero; patterns `N:M` and `fan_in N` say it
            themselves.
        pattern: "weights", "2:4", "blocks 4x1", "channels", "fan_in 6" (`flow.train.patterns`).
        begin_epoch, end_epoch: between these the sparsity rises from zero, along tfmot's polynomial; it is held then.
        layers: name of a layer -> its own sparsity, or None for `sparsity`; only these are pruned. By default all that
            have a kernel, for whole channels those whose channels are not the model's outputs.
        allocate: "layer": each has its sparsity. "cost": the same number of zeros in all, where they save most: the
            smallest weights, each measured against the rest of its layer and divided by the LUTs that it costs.
        regrow: of what stays, so large a fraction is exchanged at each step, the smallest for those with the
            largest mean gradient (Dettmers and Zettlemoyer, arXiv 1907.04840); it falls to zero with the schedule.
        schedule: a schedule of tfmot's (`tfmot.sparsity.keras.ConstantSparsity`, ...) instead.
        luts: in place of a sparsity, what the model may take by the estimate of `flow.train.lut_cost`: zeros are shared
            as with "cost", as many as that needs.
        io_type: "io_parallel" or "io_stream", as of the target that it is built for; of `luts` and "cost".

    Raises:
        SpecError: an argument is wrong; a layer is not there; an optimizer without momentum cannot regrow.

    Example:
        >>> model.fit(x, y, epochs=20, callbacks=[Pruning(0.8, pattern="channels", end_epoch=15)])  # doctest: +SKIP
    """

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        pattern: str = WEIGHTS,
        begin_epoch: float = 0,
        end_epoch: float = 10,
        layers: Mapping[str, float | None] | None = None,
        allocate: str = ALLOCATIONS[0],
        regrow: float = 0.0,
        schedule: Any = None,
        luts: float | None = None,
        io_type: str = "io_parallel",
    ) -> None:
        super().__init__()
        self.layout_of = parse_pattern(pattern)
        self.own_sparsity = counts_itself(pattern)
        self.sparsity, self.pattern, self.layers, self.schedule = sparsity, pattern, layers, schedule
        self.epochs, self.regrow, self.luts, self.io_type = (begin_epoch, end_epoch), regrow, luts, io_type
        self.state = tf.Variable(0.0, trainable=False)  # LUTs before the first zero; a checkpoint holds it
        self.allocate = allocate if luts is None else "cost"
        self.pruned = list[Pruned]()
        self._check()

    def _check(self) -> None:
        asked = [self.sparsity, *(self.layers or {}).values()]
        for value in asked:
            if value is not None and not 0 <= value < 1:
                raise SpecError(f"sparsity {shown(value)} is no fraction", remedy="expected at least 0, less than 1")
        if self.own_sparsity and any(value is not None for value in asked):
            raise SpecError(f"pattern '{self.pattern}' says itself how many weights stay", remedy="give no sparsity")
        if self.luts is not None and (
            not self.luts > 0 or self.own_sparsity or any(value is not None for value in asked)
        ):
            what = f"a budget of {shown(self.luts)} LUTs needs a number above 0, no sparsity and no pattern that counts"
            raise SpecError(what, remedy="such as Pruning(luts=5000)")
        said = self.own_sparsity or self.luts is not None or self.schedule is not None or self.sparsity is not None
        if not said and None in (self.layers or {"": None}).values():
            raise SpecError(f"pattern '{self.pattern}' needs a sparsity", remedy="such as Pruning(0.8)")
        if not 0 <= self.epochs[0] < self.epochs[1]:
            raise SpecError(f"begin_epoch {self.epochs[0]} is not before end_epoch {self.epochs[1]}")
        if self.allocate not in ALLOCATIONS:
            raise SpecError(f"allocate is {shown(self.allocate)}", remedy=f"expected {' or '.join(ALLOCATIONS)}")
        if self.allocate == "cost" and self.own_sparsity:
            raise SpecError(f"pattern '{self.pattern}' allocates itself", remedy="leave 'allocate' out")
        if not 0 <= self.regrow < 1:
            raise SpecError(f"regrow {shown(self.regrow)} is no fraction", remedy="expected at least 0, less than 1")

    # -- what Keras calls

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the kernels; at a further `fit` they keep their schedule."""
        if not self.pruned:
            self.pruned = list(self._found(self.params.get("steps") or 1))
        if self.regrow:
            self._momenta()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take the masks from the zeros that are there: a checkpoint may have been read."""
        for each in self.pruned:
            each.mask = None

    def on_train_end(self, logs: Any = None) -> None:
        """Warn if the schedule ends behind what was trained."""
        unfinished = [each for each in self.pruned if int(self.model.optimizer.iterations) < each.schedule.end_step]
        if unfinished:
            what = f"this fit ended before the schedule of its pruning, with {self.zeros():.0%} zeros"
            warnings.warn(f"{what}; give an earlier end_epoch, or train on", stacklevel=2)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Make new masks if it is time, and keep what is pruned at zero."""
        step = int(self.model.optimizer.iterations) + 1
        due = [each for each in self.pruned if _is_due(each.schedule, step)]
        if due:
            self._make_masks(due, step)
        self._hold()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Leave zeros where they belong, and say how many there are."""
        self._hold()
        if logs is not None and self.pruned:
            logs["zeros"] = self.zeros()

    def zeros(self) -> float:
        """Return the fraction of zeros in the kernels that are pruned."""
        counts = [(each.kernel.shape.num_elements(), int(tf.math.count_nonzero(each.kernel))) for each in self.pruned]
        size = float(sum(size for size, _ in counts))
        return 1 - sum(nonzero for _, nonzero in counts) / max(1.0, size)

    # -- masks

    def _hold(self) -> None:
        for each in self.pruned:
            if each.mask is None:
                each.mask = (
                    tf.cast(each.kernel != 0, tf.float32) if self._has_begun(each) else tf.ones_like(each.kernel)
                )
            each.kernel.assign(each.kernel * each.mask)
            if each.others:
                alive = tf.cast(tf.reduce_any(tf.reshape(each.mask, each.layout.unit.shape) > 0, 0), tf.float32)
                for variable in each.others:
                    variable.assign(variable * alive)

    def _has_begun(self, each: Pruned) -> bool:
        return int(self.model.optimizer.iterations) >= int(each.schedule.begin_step)

    def _make_masks(self, due: list[Pruned], step: int) -> None:
        momenta = self._momenta() if self.regrow else {}
        scores = [each.of_units(each.kernel) for each in due]
        growth = [each.of_units(momenta[each.name]) if momenta else None for each in due]
        if self.allocate == "cost":
            kept = self._allocated(due, scores, growth, step)
        else:
            kept = [
                chosen(score, grow, each.layout.group, each.counts(step), self._exchanged(each, step))
                for each, score, grow in zip(due, scores, growth, strict=True)
            ]
        for each, stays in zip(due, kept, strict=True):
            mask = stays[each.layout.unit].reshape(each.kernel.shape)
            if momenta:
                grown = mask & (each.kernel.numpy() == 0)
                each.kernel.assign(tf.where(grown, -tf.sign(momenta[each.name]) * SEED, each.kernel))
            each.mask = tf.constant(mask, tf.float32)

    def _allocated(self, due: list[Pruned], scores: list[Scores], growth: list[Scores | None], step: int) -> list[Kept]:
        """Return which units stay where all layers share their zeros."""
        from flow.train.lut_cost import weight_luts

        luts = weight_luts(self.model, self.io_type)
        costs = [luts[each.name] * np.bincount(each.layout.unit.reshape(-1)) for each in due]
        worth = np.concatenate([comparable(score) / cost for score, cost in zip(scores, costs, strict=True)])
        grow = [of_units / cost for of_units, cost in zip(growth, costs, strict=True) if of_units is not None]
        if self.luts is None:
            stay = sum(int(each.counts(step).sum()) for each in due)
        else:
            stay = self._within(due, np.concatenate(costs)[np.argsort(-worth, kind="stable")], luts, step)
        of_all, one = np.concatenate(grow) if grow else None, np.zeros(len(worth), np.int64)
        kept = chosen(worth, of_all, one, np.array([stay]), self._exchanged(due[0], step))
        return np.split(kept, np.cumsum([len(score) for score in scores])[:-1])

    def _within(self, due: list[Pruned], costs: NDArray[np.float64], luts: Mapping[str, float], step: int) -> int:
        """Return how many units, the one that is worth most first, the budget of a step holds."""
        from flow.train.lut_cost import Features, nonzero_weights

        now = float(Features(self.model, self.io_type).luts())
        if not float(self.state):
            self.state.assign(now)
        first = float(self.state)
        way = float(due[0].schedule(tf.constant(step, tf.int64))[1]) / WHOLE_WAY
        assert self.luts is not None
        budget = first + (min(self.luts, first) - first) * way
        beside = now - sum(luts[each.name] * nonzero_weights(each.layer) for each in due)
        return max(len(due), int(np.searchsorted(np.cumsum(costs), budget - beside, side="right")))

    def _exchanged(self, each: Pruned, step: int) -> float:
        begin, end = each.schedule.begin_step, each.schedule.end_step
        done = min(1.0, (step - begin) / max(1, end - begin)) if end > 0 else 0.0
        return self.regrow * (1 + math.cos(math.pi * done)) / 2

    def _momenta(self) -> dict[str, Any]:
        """Return the mean gradient of each kernel: what the optimizer keeps of it.

        Raises:
            SpecError: it keeps none.
        """
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        of_sgd = getattr(optimizer, "momentums", None) if getattr(optimizer, "momentum", 0) else None
        slots = getattr(optimizer, "_momentums", None) or of_sgd
        if not slots:
            what = f"optimizer {type(optimizer).__name__} keeps no mean gradient to regrow weights by"
            raise SpecError(what, remedy="use Adam, or SGD with momentum")
        place = optimizer._index_dict
        return {each.name: slots[place[optimizer._var_key(each.kernel)]] for each in self.pruned}

    # -- kernels

    def _found(self, steps: int) -> Iterator[Pruned]:
        by_path = layers_by_path(self.model)
        for name in self.layers or {}:
            if name not in by_path or kernel_of(by_path[name]) is None:
                there = ", ".join(path for path, layer in by_path.items() if kernel_of(layer) is not None)
                raise SpecError(f"there is no layer '{name}' with a kernel to prune", remedy=f"there are: {there}")
        for path, layer in by_path.items():
            if self.layers is not None and path not in self.layers:
                continue
            if self.pattern == CHANNELS and self.layers is None and not _feeds_kernels(layer):
                continue
            if (kernel := kernel_of(layer)) is not None:
                yield self._entry(path, kernel, steps)

    def _entry(self, path: str, kernel: Kernel, steps: int) -> Pruned:
        layer, variable, columns = kernel.layer, kernel.variable, kernel.columns
        layout = self.layout_of(variable.shape.num_elements() // columns, columns)
        own = (self.layers or {}).get(path)
        sparsity = layout.sparsity() if self.own_sparsity else (self.sparsity if own is None else own)
        others = _with_neurons(layer, columns) if self.pattern == CHANNELS else []
        sparsity = WHOLE_WAY if self.luts is not None else sparsity
        return Pruned(layer, path, variable, layout, self.schedule or self._polynomial(sparsity, steps), others)

    def _polynomial(self, sparsity: float | None, steps: int) -> Any:
        begin, end = (int(epoch * steps) for epoch in self.epochs)
        return load_pruning().PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=sparsity,
            begin_step=begin,
            end_step=max(begin + 1, end),
            frequency=max(1, steps // UPDATES_PER_EPOCH),
        )


def _is_due(schedule: Any, step: int) -> bool:
    return bool(schedule(tf.constant(step, tf.int64))[0])


def _readers(layer: Any) -> list[Any]:
    return [node.outbound_layer for node in layer._outbound_nodes]  # Keras 2 has no public name for it


def _feeds_kernels(layer: Any) -> bool:
    """Say whether a kernel of the model reads what this layer gives, through whatever is between."""
    waiting, seen = _readers(layer), set[int]()
    while waiting:
        reader = waiting.pop()
        if kernel_of(reader) is not None:
            return True
        if id(reader) not in seen:
            seen.add(id(reader))
            waiting += _readers(reader)
    return False


def _with_neurons(layer: Any, columns: int) -> list[Any]:
    """Return the bias of a layer, and the offset of the batch normalization that alone reads it."""
    found = [getattr(layer, "bias", None)]
    readers = _readers(layer)
    if len(readers) == 1 and isinstance(readers[0], keras.layers.BatchNormalization):
        found.append(readers[0].beta)
    return [variable for variable in found if variable is not None and variable.shape == (columns,)]
