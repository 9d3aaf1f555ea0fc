"""A user's model as an `IntGraph`: exact, or refused by the name of the layer.

In: a trained model as plain data (`TrainedModel`). Out: an extracted `IntGraph`, one op for each step of the model.
Between them stands a `Network`: a front end's reader makes it of what its framework wrote, and nothing behind it knows
the framework's names. No framework is imported here; what only a framework can evaluate is handed in as a function.
"""
