"""Post-training quantization of float models: restructured into unified modules, searched jointly, integers at the end.

In: a float `TrainedModel`, calibration samples and settings. Out: an `IntGraph`, and a record of what was chosen.

float_graph ──fold, equalize──▶ FloatGraph ──modules──▶ (Module, ...) ──search──▶ Choices ──assemble──▶ IntGraph
"""
