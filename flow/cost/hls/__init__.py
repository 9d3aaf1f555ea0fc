"""What HLS makes of hls4ml's kernels: what C synthesis will report of them, and what Vivado's synthesis leaves of it.

In: a lowered graph, a `Target`, and what the project is compiled with. Out: two `ResourceReport`s, each figure with the
interval in which the true one lies.
"""
