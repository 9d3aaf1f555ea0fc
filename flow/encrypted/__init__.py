"""The same integers under encryption: what a graph costs there, and a client and a server that compute its codes.

In: a lowered `IntGraph`. Out: a plan of sums and tables with their counts; and programs for two sides, of which one
holds the secret key and the other the model.
"""
