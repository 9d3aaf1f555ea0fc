"""Where samples come from: data sets, folders of images, files of a user, and inputs chosen to break things.

In: names and paths, or a graph. Out: arrays of values and labels, and codes on the grid of a graph's input port.
"""
