"""What may fail, before and after a build: preflight, levels run on the same inputs, differences and their causes.

In: a model, a graph and a generated project. Out: findings, codes of each level, and a `Divergence` with its cause.
"""
