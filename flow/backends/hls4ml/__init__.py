"""HLS projects by hls4ml's writers: the only package that imports hls4ml.

In: a lowered `IntGraph` and a `Target` of one of its six back ends. Out: a `Project` that was read back, the codes of
its C simulation, and what the vendor's synthesis reports. What differs between the back ends: `dialects.DIALECTS`.
"""
