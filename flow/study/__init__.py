"""What requantizing an accumulator costs: circuits, their measurement with open tools, the measured table."""
