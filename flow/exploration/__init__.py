"""Searches over spaces of nets: trials trained by Dask's workers, sampled and stored by Optuna, their front confirmed.

In: a spec with a `[search]` table. Out: an `Exploration`, and a directory with a page, the trials, and of each its spec
and its trained net. `space` is what is searched, `trial` a worker's part, `study` keeps trials, `search` is the loop.
"""
