"""The circuit that a TFHE server computes, on plain integers: the codes of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net, u
from zoo import ROWS, row

from flow.encrypted.circuit import compute, from_arrays, to_arrays
from flow.encrypted.matrices import circuit_of
from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower

REFUSED = "is no sum|a table of|too many for TFHE"


def _computed(graph: IntGraph) -> bool:
    """Hold a circuit against the reference; False if there is none."""
    try:
        made = circuit_of(graph)
    except UnsupportedError as error:
        assert any(words in error.what for words in REFUSED.split("|")), error
        return False
    about, arrays = to_arrays(made)
    circuit = from_arrays(about, arrays)
    low, high = graph.port_limits()
    codes = np.random.default_rng(2).integers(low, high + 1, (6, *graph.port_shape))
    codes = np.concatenate([codes, [low], [high]])
    expected = reference.run_output(graph, codes).reshape(len(codes), -1)
    assert np.array_equal(np.stack([compute(circuit, sample) for sample in codes]), expected)
    return True


def test_the_circuits_of_the_zoo_compute_what_the_reference_computes() -> None:
    computed = {name for name in ROWS if _computed(lower(row(name)))}
    assert len(computed) > 40


def test_what_is_no_sum_is_refused_by_name() -> None:
    graph = lower(Net((4, 4, 1), u(3)).pool((2, 2)).graph())
    with pytest.raises(UnsupportedError, match=r"op 'maxpool_1': 'maxpool' is no sum.*; use the scheme 'bfv'"):
        circuit_of(graph)
