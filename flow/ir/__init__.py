"""What a net is on integers: formats, the graph, what it means, and what can be proved of it.

In: fixed-point formats and ops with constant codes. Out: an `IntGraph`, its passes, its bounds, and the codes that
`reference.run` computes. Nothing here knows where a net came from or what hardware it becomes.
"""
