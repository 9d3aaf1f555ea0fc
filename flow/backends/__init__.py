"""Back ends: what each one does, and the table of them; what they share.

In: a lowered `IntGraph` and a `Target`. Out: a `Project`, the codes of its simulation, and what tools say of it.
"""
