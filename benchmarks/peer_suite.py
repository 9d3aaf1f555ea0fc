"""Try the models of hls4ml's own tests with every back end and setting, and count what is taken: docs/peer-suite.md.

    python benchmarks/peer_suite.py [--only WORD ...] [--refused | --again] [--rules] [--simulate N] [--record]

A QKeras model is extracted as it is, and the reference is held against QKeras on adversarial inputs; a port that it
does not quantize itself has hls4ml's default format, fixed<16,6>. What of it computes with floats is rounded as by
`--float-layers`. hls4ml gives a float model 16-bit types by its configuration; here it is quantized as `flow quantize`
does, with 8 bits, and the search holds the reference against what it computed. Then each back end refuses the graph, or
emits it and reads the project back; with `--rules` nothing is emitted. `--simulate` also runs so many of the projects
of each back end as C++ or Verilog, drawn by a seed.

What became of a model is kept in `build/peer-suite`, with the commit; an interrupted run goes on where it stopped.
`--refused` tries again what was not taken everywhere, `--again` all. Needs `po2flow[train]`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from peer_models import Situation, float_models, keras, quantized_models

from flow.backends.functions import Design, Site, functions, settled
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import parse_format
from flow.errors import FlowError
from flow.findings import ERROR
from flow.frontend.extraction import attempt, extract, quantizes_its_input
from flow.frontend.extraction.approximation import Approximation
from flow.frontend.trained import TrainedModel
from flow.ir import reference
from flow.ir.graph import IntGraph, from_json, to_json
from flow.ir.passes import lower
from flow.project import write
from flow.quantization.driver import quantize
from flow.report.scores import distances
from flow.target import IO_TYPES, STRATEGIES, Target
from flow.toolchain import run_tool
from flow.train import inference
from flow.train.functions import approximate, evaluate
from flow.train.reader import KerasModel, read_keras
from flow.verification.compare import mismatches
from flow.verification.preflight import design_rules

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("Vitis", "Vivado", "Quartus", "Catapult", "oneAPI", "rtl")
FINE = TAKEN, EMITTED, SIMULATED = "taken", "emitted", "simulated"
WRONG = REFUSED, DIFFERS, CRASHED = "refused", "differs", "crashed"
INPUTS, CALIBRATION, SEED, SOFTMAX = 48, 32, 1, "ufixed<16,0>"
FLOAT_BITS = 16
"""Of what a QKeras model computes with floats, as hls4ml gives such tables 16 to 18."""
MOST_NAMES, MOST_LETTERS = 6, 300
"""Models that a line of the document names, and letters of a reason."""
Outcome = tuple[str, str]
"""One of `FINE`, with what was rounded on request, or one of `WRONG` and the reason."""
Outcomes = dict[str, Outcome]
"""Settings of a target -> what became of a model there."""


def targets() -> dict[str, Target]:
    """Return every back end with its io_types and strategies, and where products can share one, with a reuse factor."""
    found = {}
    for backend, io_type, strategy, reuse in product(BACKENDS, IO_TYPES, STRATEGIES, (1, 4)):
        how: dict[str, Any] = {"reuse_factor": reuse, "reuse_nearest": reuse > 1}
        try:
            target = Target(backend=backend, io_type=io_type, strategy=strategy, **how)
        except FlowError:  # a strategy, or a reuse factor, that the back end does not have
            continue
        if reuse == 1 or strategy == "Resource":
            found[" ".join((backend, io_type, strategy, *(["reuse 4"] if reuse > 1 else [])))] = target
    return found


# -- one model


def try_model(situation: Situation, directory: Path, *, emits: bool) -> Outcomes:
    """Return what becomes of a model on every target; leave its graph in the directory if it has one."""
    try:
        extracted, lowered, trained, rounded = _graphs(situation)
    except Exception as error:  # whatever it is, it is an outcome
        return dict.fromkeys(targets(), _failed(error))
    (directory / "graph.json").write_text(json.dumps(to_json(lowered)))
    outcomes = {name: _on(target, extracted, lowered, trained, emits) for name, target in targets().items()}
    return {name: (status, rounded if status in FINE else why) for name, (status, why) in outcomes.items()}


def _graphs(situation: Situation) -> tuple[IntGraph, IntGraph, TrainedModel | None, str]:
    """Return the graph of a model before and after the passes, and a model that was quantized before as data.

    Last what was rounded on request, if anything was, and how far outputs are then from QKeras'.

    Raises:
        FlowError: it is refused.
        AssertionError: the reference and QKeras differ, or the search and the reference.
    """
    keras.utils.set_random_seed(SEED)
    softmax = parse_format(SOFTMAX) if situation.softmax else None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "peer.h5"
        situation.build().save(path)
        source = read_keras(path)
    trained, port = source.trained, parse_format(situation.port)
    if situation.label not in {row.label for row in quantized_models()}:
        samples = np.random.default_rng(SEED).uniform(-1, 1, (CALIBRATION, *trained.input_shape())).astype(np.float32)
        samples = (
            samples if port.signed else np.floor(np.abs(samples) * 10)
        )  # those of an embedding are numbers of rows
        made = quantize(trained, samples, input_format=port, softmax=softmax, functions=approximate)
        return made.extracted, made.lowered, None, ""
    how: dict[str, Any] = {"softmax": softmax, "evaluate": evaluate}
    fmt = None if quantizes_its_input(trained) else port
    if attempt(trained, fmt, **how).graph is None:
        samples = np.random.default_rng(SEED).uniform(-1, 1, (CALIBRATION, *trained.input_shape()))
        rounds = Approximation(float_layers=FLOAT_BITS, samples=samples)
        extracted = extract(trained, fmt, **how, rounds=rounds)
        return extracted, lower(extracted), None, _distance(source, lower(extracted))
    extracted = extract(trained, fmt, **how)
    lowered = lower(extracted)
    codes = adversarial_inputs(lowered, INPUTS)
    wrong = _wrong(lowered, codes, inference.run(source.keras, trained, extracted, lowered, codes))
    assert not wrong, f"QKeras differs from the reference: {wrong}"
    return extracted, lowered, trained, ""


def _distance(source: KerasModel, lowered: IntGraph) -> str:
    """Return how far outputs are from QKeras' own, of what was rounded on request."""
    codes = adversarial_inputs(lowered, INPUTS)
    own = inference.float_outputs(source.keras, source.trained, lowered, codes)
    (distance,) = distances(lowered, reference.run(lowered, codes), own)[:1]
    far, largest = distance["largest_difference"], float(np.abs(own[lowered.outputs[0]]).max())
    return f"--float-layers {FLOAT_BITS}: outputs are {far:.2g} from QKeras' at most, whose largest is {largest:.2g}"


def _wrong(graph: IntGraph, codes: Any, said: Any) -> dict[str, int]:
    """Return the ops at which a level differs from the reference, and how often."""
    return {op: count for op, count in mismatches(reference.run(graph, codes), said, graph.ops).items() if count}


def _on(target: Target, extracted: IntGraph, lowered: IntGraph, trained: TrainedModel | None, emits: bool) -> Outcome:
    """Return what a back end makes of a graph."""
    try:
        target = settled(target, lowered)
        design = Design(trained=trained, extracted=extracted, lowered=lowered, target=target)
        for rule in design_rules(target):
            for finding in rule.apply(design) if rule.severity == ERROR else ():
                raise finding.refusal
        if emits:
            functions(target).emit(lowered, target)  # which reads back what it wrote
    except Exception as error:  # whatever it is, it is an outcome
        return _failed(error)
    return EMITTED if emits else TAKEN, ""


def _failed(error: Exception) -> Outcome:
    if isinstance(error, FlowError) and error.exit_code == 2:
        return REFUSED, f"{error.what}; {error.remedy}" if error.remedy else error.what
    if isinstance(error, AssertionError) and "differs" in str(error):
        return DIFFERS, str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return CRASHED, f"{type(error).__name__} in {last.name}: {next(iter(str(error).splitlines()), '')}"


# -- all of them


def place(build: Path, label: str) -> Path:
    """Return the directory of what is kept of a model."""
    return build / re.sub(r"\W", "-", label)


def kept(directory: Path) -> Outcomes | None:
    """Return what is known of a model, or None."""
    try:
        known = json.loads((directory / "outcomes.json").read_text())["of"]
    except (OSError, ValueError):
        return None
    return {name: (status, reason) for name, (status, reason) in known.items()}


def keep(directory: Path, outcomes: Outcomes) -> None:
    """Write down what is known of a model, and on which commit."""
    facts = {"commit": run_tool(["git", "describe", "--always"], ROOT).strip(), "of": outcomes}
    (directory / "outcomes.json").write_text(json.dumps(facts, indent=1))


def try_all(rows: Sequence[Situation], build: Path, *, again: bool, refused: bool, emits: bool) -> dict[str, Outcomes]:
    """Return what becomes of every model, through what is kept."""
    outcomes, started = {}, time.monotonic()
    for number, situation in enumerate(rows, 1):
        directory = place(build, situation.label)
        known = kept(directory)
        if known is None or again or (refused and any(status in WRONG for status, _ in known.values())):
            directory.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                known = try_model(situation, directory, emits=emits)
            keep(directory, known)
        outcomes[situation.label] = known
        words = f"{number} of {len(rows)} models, {time.monotonic() - started:.0f} s, {situation.label}"
        print(f"\r{words:100.100}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return outcomes


def simulate(outcomes: Mapping[str, Outcomes], build: Path, count: int) -> None:
    """Run so many projects of each back end that has a simulation here, and write down what they computed."""
    made = targets()
    for backend in BACKENDS:
        if functions(Target(backend=backend)).not_simulated(Target(backend=backend)):
            continue
        pairs = [(label, name) for label, of in outcomes.items() for name in of if of[name][0] in FINE]
        pairs = [pair for pair in pairs if made[pair[1]].backend == backend]
        for label, name in random.Random(SEED).sample(pairs, min(count, len(pairs))):
            if outcomes[label][name][0] != SIMULATED:
                directory = place(build, label)
                graph = from_json(json.loads((directory / "graph.json").read_text()))
                status, why = _simulated(graph, settled(made[name], graph))
                outcomes[label][name] = status, why or outcomes[label][name][1]
                keep(directory, outcomes[label])
            print(f"{label}, {name}: {outcomes[label][name][0]}", file=sys.stderr, flush=True)


def _simulated(graph: IntGraph, target: Target) -> Outcome:
    """Return what a project computes on adversarial inputs."""
    codes = adversarial_inputs(graph, INPUTS)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            site = Site(Path(scratch), graph, target)
            write(functions(target).emit(graph, target), site.project)
            wrong = _wrong(graph, codes, functions(target).compile(site)(codes))
        assert not wrong, f"{target.simulation} differs from the reference: {wrong}"
    except Exception as error:  # whatever it is, it is an outcome
        return _failed(error)
    return SIMULATED, ""


# -- the document


def document(outcomes: Mapping[str, Outcomes]) -> str:
    """Return docs/peer-suite.md: counts by back end, and what is not taken, by reason."""
    cases = [(label, name.split(" ")[0], *each) for label, of in outcomes.items() for name, each in of.items()]
    commit = run_tool(["git", "describe", "--always"], ROOT).strip()
    lines = [HEAD.format(models=len(outcomes), cases=f"{len(cases):,}", commit=commit)]
    lines += ["| back end | cases | taken | of them on request | emitted | simulated | refused | differ | crash |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for backend in BACKENDS:
        counts = Counter(status for _, own, status, _ in cases if own == backend)
        total, taken = sum(counts.values()), sum(counts[status] for status in FINE)
        share = f"{taken} ({100 * taken / max(total, 1):.1f} %)"
        asked = sum(bool(why) for _, own, status, why in cases if own == backend and status in FINE)
        of_them = asked, taken - counts[TAKEN], counts[SIMULATED]
        cells = [backend, total, share, *of_them, *(counts[each] for each in WRONG)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", *_reasons(cases)]) + "\n"


def _reasons(cases: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    """Yield what is not taken, or on request, by reason, the most frequent first."""
    by_reason: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, backend, status, reason in cases:
        if reason:
            status = "on request" if status in FINE else status
            by_reason.setdefault((status, _general(reason, backend)), []).append((label, backend))
    for (status, reason), of in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        labels, backends = (list(dict.fromkeys(each)) for each in zip(*of, strict=True))
        more = f" and {len(labels) - MOST_NAMES} more" if len(labels) > MOST_NAMES else ""
        yield f"- {len(of)} {status} ({', '.join(backends)}): {reason}  \n  {', '.join(labels[:MOST_NAMES])}{more}"


def _general(reason: str, backend: str) -> str:
    """Return a reason without the op, the back end and the list of what is accepted instead."""
    first = " ".join(re.sub(r"^op '[^']*': ", "", reason).split())
    return first.partition("; use one of ")[0].replace(backend, "BACKEND")[:MOST_LETTERS]


HEAD = """\
# The models of hls4ml's tests

The Keras 2 and QKeras models of hls4ml's own tests, recreated as a table (`benchmarks/peer_models.py`): {models}
models, each with every back end, `io_type` and strategy, and a reuse factor of 4 where products share multipliers.
That makes {cases} cases, measured by `python benchmarks/peer_suite.py --record` on commit {commit}; what was taken on
an earlier commit stands.

A case is *taken* if the model became integers and no rule of the back end refuses them. Of a QKeras model the
reference gave the same codes as QKeras on adversarial inputs. A float model, to which hls4ml gives 16-bit types by
its configuration, was quantized to 8 bits as by `flow quantize`; the reference gave what the search computed.
*On request*: what a QKeras model computes with floats inside, such as a sigmoid that nothing quantizes, was rounded as
by `--float-layers`; the distance stands below.
*Emitted*: the project was read back as the graph; *simulated*: it computed the codes of the reference. What is
refused is refused by name, before anything is written; the reasons stand below.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="models whose label has one of these")
    parser.add_argument("--again", action="store_true", help="try what is known already")
    parser.add_argument("--refused", action="store_true", help="try again what was not taken on every target")
    parser.add_argument("--rules", action="store_true", help="ask what is refused, and emit nothing")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="run so many projects of each back end")
    parser.add_argument("--record", action="store_true", help="write docs/peer-suite.md")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "peer-suite", metavar="DIR")
    given = parser.parse_args()
    rows = [each for each in (*float_models(), *quantized_models()) if any(word in each.label for word in given.only)]
    outcomes = try_all(rows, given.build, again=given.again, refused=given.refused, emits=not given.rules)
    simulate(outcomes, given.build, given.simulate)
    text = document(outcomes)
    if given.record:
        (ROOT / "docs" / "peer-suite.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
