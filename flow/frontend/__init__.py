"""A user's model as an `IntGraph`: exact, or refused by the name of the layer.

In: a trained model as plain data (`TrainedModel`). Out: an extracted `IntGraph`, one op for each step of the model.
No framework is imported here; what only a framework can evaluate is handed in as a function.
"""
