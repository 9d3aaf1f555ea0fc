"""What a build does besides its target."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flow.backends.functions import TOOLS
from flow.data.inputs import Samples, parse_format
from flow.errors import DataError, SpecError, at, shown
from flow.field_types import hold_types
from flow.frontend.extraction.approximation import MOST_SAMPLES, Approximation, check_bits
from flow.ir.fixed import FixedFormat
from flow.quantization.settings import QuantSettings

MOST_ADVERSARIAL = 1_000_000
"""They are held in memory, with what every op makes of them."""
UNTIL = ("extract", "emit", "report", *TOOLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a build does besides its target.

    Attributes:
        weights: weights file for a model given as `.json`.
        inputs, labels: files of arrays; without them a named model's test set, or the inputs kept with it, is used.
        input_format: port format for models that do not quantize their input, like "ufixed<8,0>".
        softmax: format of the outputs of a final softmax, like "ufixed<8,0>", or "off" to leave it off the hardware.
        batchnorm_bits: round factors and offsets of batch normalizations to this many bits; without it they are exact.
        float_layers: round weights and outputs of layers without quantizers to this many bits, formats tried on the
            inputs; without it their weights are exact, or refused.
        samples: at most this many inputs are run.
        adversarial: how many adversarial inputs are run besides, 16 to `MOST_ADVERSARIAL`.
        until: stage after which to stop: one of `UNTIL`.
        output: directory that holds all runs.

    Raises:
        SpecError: a value is not one of those, or no format.
    """

    weights: Path | None = None
    inputs: Path | None = None
    labels: Path | None = None
    input_format: str | None = None
    softmax: str = "off"
    batchnorm_bits: int | None = None
    float_layers: int | None = None
    samples: int = 2000
    adversarial: int = 2048
    until: str = "report"
    output: Path = Path("hls_projects")

    def __post_init__(self) -> None:
        hold_types(self)
        if self.until not in UNTIL:
            raise SpecError(
                f"{shown(self.until)} is not a stage", field="until", remedy=f"use one of {', '.join(UNTIL)}"
            )
        if self.samples < 1:
            raise SpecError(f"{self.samples} is below 1", field="samples")
        if not 16 <= self.adversarial <= MOST_ADVERSARIAL:
            raise SpecError(f"{self.adversarial} is not within 16 to {MOST_ADVERSARIAL}", field="adversarial")
        if self.labels is not None and self.inputs is None:
            raise SpecError("labels were given without inputs", remedy="give both")
        check_bits("batchnorm_bits", self.batchnorm_bits)
        check_bits("float_layers", self.float_layers)
        with at(field="input_format"):  # now, not when a model was read for minutes
            self.port_format()
        with at(field="softmax"):
            self.softmax_format()

    def port_format(self) -> FixedFormat | None:
        """Return the format that the ports are given, if they are given one."""
        return None if self.input_format is None else parse_format(self.input_format)

    def rounds(self, samples: Samples | None) -> Approximation | None:
        """Return what is rounded on request.

        Raises:
            SpecError: it is to so many bits as nothing is.
            DataError: formats are to be tried on samples, and there are none.
        """
        if self.batchnorm_bits is None and self.float_layers is None:
            return None
        if self.float_layers is not None and samples is None:
            raise DataError("formats of float layers are tried on samples, and there are none", remedy="give --inputs")
        values = None if samples is None else samples.values[:MOST_SAMPLES].astype(np.float64)
        return Approximation(float_layers=self.float_layers, batchnorm=self.batchnorm_bits, samples=values)

    def softmax_format(self) -> FixedFormat | None:
        """Return the format of a softmax in hardware; None leaves it off."""
        return None if self.softmax == "off" else parse_format(self.softmax)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions(BuildOptions):
    """What the build of a float model does besides its target.

    Attributes:
        calibration: file of samples to calibrate with; without it the training samples kept with a named model.
        settings: how it is quantized.
        spec: the TOML file that the settings of single layers come from; only named in the report.
    """

    calibration: Path | None = None
    settings: QuantSettings = field(default_factory=QuantSettings)
    spec: Path | None = None
