"""hls4ml back end: the only package that imports hls4ml; it writes HLS projects for Vitis and Vivado."""
