"""Keras as a front end, as far as it needs no framework: configurations of Keras 2 and Keras 3 into layers.

In: the configuration that Keras writes, and arrays by the path of their layer. Out: a `Network`. Behind this room
nothing knows the names of Keras' classes.
"""

from flow.frontend.keras.reader import LAYERS, NO_OPS, read, unknown_layer

__all__ = ["LAYERS", "NO_OPS", "read", "unknown_layer"]
