"""Post-training quantization of float models: restructured into unified modules, searched jointly, integers at the end.

float_graph ──fold, equalize──▶ FloatGraph ──modules──▶ (Module, ...) ──search──▶ Choices ──assemble──▶ IntGraph
"""
