"""What a graph takes on hardware: LUTs, registers, memories, multipliers, cycles, FIFO depths and energy.

In: an `IntGraph` and a `Target`, or a report of a vendor's tool. Out: `ResourceReport` and `EnergyReport`, each with
its source.
"""
