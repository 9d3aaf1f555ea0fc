"""Projects for oneAPI, simulated with g++ and our stand-in for SYCL: hls4ml's functions and our kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import needs_compiler
from edits import edit
from nets import Net, inputs, s, u
from test_emit import branches

from flow.backends.hls4ml import csim, piped
from flow.backends.hls4ml.emit import emit
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import write
from flow.target import IO_TYPES, Target


def layers() -> IntGraph:
    """Return a graph of what hls4ml computes itself, in streams with zeros around a convolution and a long word."""
    net = Net((4, 4, 2), s(4, 1), "layers").conv(zoo.po2(3, 3, 2, 2), padding="same").relu().requantize(u(4)).mark("a")
    net.conv(zoo.po2(1, 1, 2, 2)).requantize(u(4)).merge("add", "a").pool((2, 2))
    return lower(net.flatten().dense(zoo.po2(8, 3)).requantize(s(6, 1)).leave("a").graph())


@needs_compiler
@pytest.mark.parametrize("io_type", IO_TYPES)
@pytest.mark.parametrize("made", [branches, layers])
def test_csim_is_the_reference(made, io_type: str, tmp_path: Path) -> None:
    lowered = made()
    assert different(lowered, io_type, tmp_path) == []


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("io_type", IO_TYPES)
def test_csim_of_every_row_is_the_reference(io_type: str, tmp_path: Path) -> None:
    rows = [lower(zoo.row(name)) for name in zoo.ROWS]
    casts = [row for row in rows if all(op.format.width > 1 for op in row.ops)]
    assert [name for row in casts for name in different(row, io_type, tmp_path / row.name)] == []


def different(lowered: IntGraph, io_type: str, directory: Path) -> list[str]:
    """Return the ops whose codes in simulation are not those of the reference."""
    project, codes = emit(lowered, Target(backend="oneAPI", io_type=io_type)), inputs(lowered, 40)
    write(project, directory / "project")
    program = piped.compile_pipes(project, lowered, directory / "csim", csim.sources_digest(project))
    found, expected = csim.run(program, directory / "project", lowered, codes), reference.run(lowered, codes)
    return [
        f"{lowered.name}.{op.name}"
        for op in lowered.ops
        if not np.array_equal(found.codes[op.name], expected.codes[op.name])
    ]


def test_an_op_that_is_not_called_as_it_was_generated_is_found() -> None:
    lowered = branches()
    for io_type, old, new in (("io_parallel", r" // merge_4", ""), ("io_stream", r"merge_4\.async\(\);", "")):
        project = emit(lowered, Target(backend="oneAPI", io_type=io_type))
        with pytest.raises(ValueError, match=r"branches\.cpp: an op is not called as it was generated"):
            piped.program_source(edit(project, "src/firmware/branches.cpp", old, new), lowered)
