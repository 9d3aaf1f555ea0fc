"""What requantizing an accumulator costs: circuits, and their measurement with open tools.

In: circuits, widths, and accumulators of the models that come along. Out: the table that
`flow.cost.requantizers` reads, and its document.
"""
