"""The command line: one short function per command; the only place that prints."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flow import explore_command, options
from flow.commands import WEIGHTS_FILE
from flow.errors import (
    FlowError,
    OutputError,
    PreflightError,
    SpecError,
    ToolFailedError,
    ToolMissingError,
    counted,
    shortened,
    shown,
)
from flow.ir.names import printable
from flow.json_text import json_text
from flow.progress import progress
from flow.toolchain import ending_in_order

if TYPE_CHECKING:
    from flow.report.record import Report

BUG, INTERRUPTED = 4, 130
GOES_ON = frozenset({"train", "build", "quantize", "explore", "encrypt", "fuzz", "study"})
"""Commands that keep what they have done until they are asked again; the others are short."""
SHELLS = ("bash", "zsh", "tcsh")
EPILOG = """\
exit codes: 0 all good, 1 outputs differ, 2 bad input or usage, 3 a tool is missing or too old,
4 a tool failed or a bug, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    code = 0
    try:
        with ending_in_order():
            code = int(arguments.run(arguments))
        if sys.stdout is not None:  # as `>&-` leaves it
            sys.stdout.flush()
        return code
    except FlowError as error:
        kept = "\n" if isinstance(error, ToolFailedError | PreflightError) else ""  # a tool's lines, or one per finding
        print(f"flow: error: {printable(str(error), kept)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        kept = "what is finished stays, and the same command goes on from there"
        how = kept if arguments.goes_on else "the same command begins again"
        print(f"flow: interrupted; {how}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except OSError as error:
        print(
            f"flow: error: {printable(str(error.filename or 'standard output'))}: {error.strerror or error}",
            file=sys.stderr,
        )
        return 2
    except Exception as error:  # none of the tree: a bug, which must not look like outputs that differ
        print(f"flow: error: {printable(_kept(error))}", file=sys.stderr)
        return BUG


def _kept(error: Exception) -> str:
    """Keep the traceback of a bug in a file, and return what is said of it."""
    what = "memory ran out" if isinstance(error, MemoryError) else "this is a bug in flow"
    said = f"{what} ({type(error).__name__}: {shown(error)})"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="flow-bug-", suffix=".txt", delete=False, errors="replace"
        ) as file:
            file.write(f"{' '.join(sys.argv)}\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return f"{said}; its traceback could not be kept"
    return f"{said}; its traceback is in {file.name}: please report it"


def _parser() -> argparse.ArgumentParser:
    parser = _Command(
        prog="flow",
        description="Neural networks with power-of-two weights to FPGAs, bit for bit.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of this package and of Python")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)

    def command(name: str, run: object, text: str) -> _Command:
        sub = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
        sub.set_defaults(run=run, goes_on=name in GOES_ON)
        if name in GOES_ON or name in ("compare", "bitstream"):
            sub.add_argument("--quiet", action="store_true", help="say nothing of what is done, only what was found")
        return sub

    listed = command("list", _list, "list the models that come with their spec")
    listed.add_argument("--json", action="store_true", help="print them as JSON on stdout")
    show = command("show", _show, "print a model's integer graph")
    show.add_argument("model", type=Path)
    told = "what it takes under encryption instead: bootstraps, widths, depth (docs/encrypted.md)"
    show.add_argument("--encrypted", action="store_true", help=told)
    options.add_model_options(show)
    train = command("train", _train, "train a model from its spec with QKeras (needs TensorFlow)")
    train.add_argument("model", type=Path, help="name in models/ or spec file")
    train.add_argument("--epochs", type=int, help="instead of the spec's")
    train.add_argument("--output", type=Path, help="directory for the trained model (default: beside the spec)")
    train.add_argument("--tensorboard", type=Path, metavar="DIR", help="write logs for TensorBoard")
    build = command("build", _build, "turn a model into a verified HLS project and its report")
    model = "name in models/, spec file, or Keras model (.h5, .keras, SavedModel, .json)"
    build.add_argument("model", type=Path, help=model)
    options.add_model_options(build)
    options.add_target_options(build)
    options.add_run_options(build)
    quantize = command("quantize", _quantize, "turn a float model into a verified project of shifts and its report")
    quantize.add_later = _add_quantize
    told = "search the space of a spec for nets that are accurate and small (needs Optuna, Dask)"
    explore_command.add_arguments(command("explore", explore_command.run, told))
    told = "say what would fail in conversion or vendor synthesis, before generating anything"
    check = command("check", _check, told)
    check.add_argument("model", type=Path, help="as for build")
    options.add_model_options(check)
    options.add_target_options(check)
    check.add_argument("--json", action="store_true", help="print the findings as JSON on stdout")
    compare = command("compare", _compare, "simulate a run's project again as it lies on disk, and compare")
    add = compare.add_argument
    add("run_dir", type=Path, metavar="RUN")
    add("--levels", nargs=2, metavar=("A", "B"), help="two levels, as 'qkeras csim' (default: reference csim)")
    add("--inputs", type=Path, help=".npz of input codes, as counterexample.npz (default: all inputs of the run)")
    add("--json", action="store_true", help="print the report as JSON on stdout")
    report = command("report", _report, "print a run's report and write its page, with vendor reports; or compare runs")
    add = report.add_argument
    add("run_dirs", type=Path, nargs="+", metavar="RUN", help="several: side by side on one page")
    add("--format", choices=("text", "markdown", "json"), help="of one run (default: text)")
    add("--output", type=Path, help="page of several runs (default: comparison.html)")
    files = "vendor reports from elsewhere: of csynth, Vivado (utilization, hierarchy, timing) or Quartus' fitter"
    add("--vendor", type=Path, nargs="+", default=[], metavar="FILE", help=files)
    told = "learn factors for estimates from runs that have vendors' figures; later builds beside them use these"
    calibrate = command("calibrate", _calibrate, told)
    calibrate.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="with figures of csynth or Vivado")
    calibrate.add_argument("--to", type=Path, metavar="FILE", help="(default: calibration.json beside the runs)")
    calibrate.add_argument("--json", action="store_true", help="print the file's content as JSON on stdout")
    export = command("export", _export, "write a run as a folder for a firmware engineer: bench, constraints, scripts")
    export.add_argument("run_dir", type=Path, metavar="RUN")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder; must be new or empty")
    export.add_argument("--samples", type=int, default=100, help="in the vectors of its test bench (default: 100)")
    ports = "axis (default); of rtl, io_parallel: fixed (data and valid alone; nothing waits), axilite (registers)"
    export.add_argument("--interface", default="axis", help=ports)
    packed = "of axis: bits of tdata, which holds as many elements as fit (default: a sample or a pixel a beat)"
    export.add_argument("--tdata-bits", type=int, metavar="BITS", help=packed)
    told = "of rtl: pynq-z2, zcu102, zcu104, kv260, u250: a block design for Vivado, and a driver for Python"
    export.add_argument("--board", help=told)
    export.add_argument("--json", action="store_true", help="print what it was made of as JSON on stdout")
    bits = command("bitstream", _bitstream, "make a bitstream with open tools, and simulate its placed cells")
    bits.add_argument("run_dir", type=Path, metavar="RUN")
    bits.add_argument("--board", required=True, help="ulx3s, icebreaker, tangnano9k (docs/board.md)")
    bits.add_argument("--samples", type=int, default=2, help="that the placed cells compute (default: 2)")
    bits.add_argument("--program", action="store_true", help="load it into the board, with openFPGALoader")
    bits.add_argument("--json", action="store_true", help="print what was reached as JSON on stdout")
    encrypt = command("encrypt", _encrypt, "compute a model on encrypted samples, and compare the codes")
    encrypt.add_argument("model", type=Path, help="as for build")
    encrypt.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of client, server and messages")
    schemes = "tfhe (the server computes all of it; default), bfv (the client requantizes between layers)"
    encrypt.add_argument("--scheme", default="tfhe", help=schemes)
    encrypt.add_argument("--samples", dest="encrypted_samples", type=int, default=2, help="how many (default: 2)")
    options.add_model_options(encrypt)
    encrypt.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    fuzz = command("fuzz", _fuzz, "send random QKeras models the whole way and compare (needs TensorFlow and g++)")
    add = fuzz.add_argument
    add("--models", type=int, default=25, help="how many (default: 25)")
    add("--seed", type=int, default=1, help="of the models (default: 1)")
    add("--output", type=Path, default=Path("fuzz"), help="outcomes and findings (default: fuzz)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, whose workers try them (docs/explore.md)")
    add("--replay", type=Path, metavar="FINDING", help="try the model of a finding again, and no other")
    study = command("study", _study, "measure again what each way to requantize an accumulator costs in gates")
    add = study.add_argument
    add("what", metavar="STUDY", help="quantizers, the only study (needs Yosys)")
    add("--circuits", default="", help="some circuits, as 'shift_constant,dyadic16_runtime' (default: all)")
    where = "where table, document and plot go (default: study; '.' in a checkout: in place of those that come along)"
    add("--output", type=Path, default=Path("study"), help=where)
    doctor = command("doctor", _doctor, "say what is installed, what is missing, and the command that mends it")
    doctor.add_argument("--json", action="store_true", help="print that as JSON on stdout")
    completion = command("completion", _completion, "print what completes commands and options in a shell")
    completion.add_argument("shell", choices=SHELLS, help=", ".join(SHELLS))
    return parser


class _Version(argparse.Action):
    """Print the version and end; to know it takes an import."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object, **unused_too: object) -> NoReturn:
        from importlib.metadata import version

        print(f"flow (po2flow) {version('po2flow')}, Python {sys.version.split()[0]}")
        parser.exit()


class _Command(argparse.ArgumentParser):
    """A command; `add_later` adds its arguments when it is asked for, where to know them takes imports."""

    add_later: Callable[[_Command], None] | None = None

    def settle(self) -> None:
        """Add the arguments that are added later."""
        add, self.add_later = self.add_later, None
        if add is not None:
            add(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.settle()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said by the command that does not know them, with its own usage
            own = [option for action in self._actions for option in action.option_strings]
            near = get_close_matches(unknown[0].partition("=")[0][:40], own, n=1)
            meant = f": did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(each) for each in action.choices or ()]
        if choices and str(value) not in choices:
            near = get_close_matches(str(value)[:40], choices, n=1)
            meant = f"did you mean {near[0]}?" if near else f"choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"there is no {shown(value)}: {meant}")

    def error(self, message: str) -> NoReturn:
        super().error(printable(shortened(message, 600)))


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    model = "name in models/ or float Keras model (.h5, .keras, SavedModel, .json)"
    parser.add_argument("model", type=Path, help=model)
    options.add_settings(parser)
    parser.add_argument("--qkeras", type=Path, metavar="FILE", help="also a QKeras model (.h5), to be trained on")
    options.add_model_options(parser, WEIGHTS_FILE["quantize"])
    options.add_target_options(parser)
    options.add_run_options(parser)


def _list(arguments: argparse.Namespace) -> int:
    from flow.frontend.trained import TRAINED_JSON, load_metrics
    from flow.train.spec import FloatSpec, find_model_dir, list_models, load_spec

    found = list[dict[str, Any]]()
    for name in list_models():
        directory = find_model_dir(name)
        spec = load_spec(directory / "spec.toml")
        metrics = load_metrics(directory) if (directory / TRAINED_JSON).exists() else None
        kind = "float" if isinstance(spec, FloatSpec) else "quantized"
        found.append({"name": name, "description": spec.description, "kind": kind, "trained": metrics})
    if arguments.json:
        print(json_text({"schema": 1, "models": found}))
        return 0
    for model in found:
        state = "not trained" if model["trained"] is None else _measured(model["trained"])
        hint = ", float model: flow quantize" if model["kind"] == "float" and model["trained"] is not None else ""
        print(f"{model['name']:17} {'; '.join(filter(None, (model['description'], state)))}{hint}")
    return 0


def _measured(metrics: Mapping[str, Any]) -> str:
    """Return what training measured of a model, in one line."""
    said = [
        f"{label} {100 * metrics[name]:.2f} %"
        for name, label in (("float", "float"), ("qkeras", "QKeras"))
        if name in metrics
    ]
    if "reconstruction_mse" in metrics:
        said.append(f"float reconstruction error {metrics['reconstruction_mse']:.5f}")
    for name, head in metrics.get("heads", {}).items():
        values = [f"{level} {head[level]:.4g}" for level in ("float", "qkeras") if level in head]
        said.append(f"{name}: {head['measure'].replace('_', ' ')} {', '.join(values)}")
    if "sparsity" in metrics:
        said.append(f"{100 * metrics['sparsity']:.1f} % zeros")
    return ", ".join(said)


def _show(arguments: argparse.Namespace) -> int:
    from flow.encrypted import plan
    from flow.ir.graph import to_text
    from flow.pipeline import load_graph

    graph = load_graph(arguments.model, options.read_options(arguments))
    print(plan.to_text(plan.plan_of(graph)) if arguments.encrypted else to_text(graph))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from flow.train.spec import MAX_EPOCHS, find_model_dir, load_spec

    spec_file = arguments.model
    if spec_file.suffix != ".toml":
        spec_file = find_model_dir(str(arguments.model)) / "spec.toml"
    spec = load_spec(spec_file)
    if arguments.epochs is not None and not 1 <= arguments.epochs <= MAX_EPOCHS:
        what = f"epochs is {shown(arguments.epochs)}"
        raise SpecError(what, model=spec.name, remedy=f"expected 1 to {MAX_EPOCHS}")
    directory, logs = arguments.output or spec_file.parent, arguments.tensorboard
    from flow.pipeline.training import train_model

    with progress(log=True, quiet=arguments.quiet) as announce:
        trained = train_model(spec, directory, epochs=arguments.epochs, tensorboard=logs, announce=announce)
    if directory.resolve() != spec_file.parent.resolve():
        shutil.copyfile(spec_file, directory / "spec.toml")  # so that the directory is a model of its own
    print(f"{spec.name}: {_measured(trained.metrics)}; written to {directory}")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from flow.pipeline import build

    with progress(log=True, quiet=arguments.quiet) as announce:
        report = build(arguments.model, options.read_target(arguments), options.read_options(arguments), announce)
    return _print_report(report, "json" if arguments.json else "text")


def _quantize(arguments: argparse.Namespace) -> int:
    from flow.pipeline import quantize
    from flow.pipeline.driver import check_qkeras, write_qkeras

    asked = options.read_quantize_options(arguments)
    check_qkeras(arguments.qkeras)
    with progress(log=True, quiet=arguments.quiet) as announce:
        report = quantize(arguments.model, options.read_target(arguments), asked, announce)
        if arguments.qkeras is not None:
            announce("QKeras model")
            write_qkeras(arguments.qkeras, report)
    return _print_report(report, "json" if arguments.json else "text")


def _check(arguments: argparse.Namespace) -> int:
    from flow.findings import ERROR, to_text
    from flow.pipeline import check

    findings = check(arguments.model, options.read_target(arguments), options.read_options(arguments))
    if arguments.json:
        print(json_text({"schema": 1, "findings": [finding.to_json() for finding in findings]}))
    else:
        print(printable(to_text(findings), "\n"))
    return 2 if any(finding.severity == ERROR for finding in findings) else 0


def _compare(arguments: argparse.Namespace) -> int:
    from flow.pipeline import compare_run

    with progress(log=True, quiet=arguments.quiet) as announce:
        levels = tuple(arguments.levels) if arguments.levels else None
        report = compare_run(arguments.run_dir, announce, levels=levels, inputs=arguments.inputs)
    return _print_report(report, "json" if arguments.json else "text")


def _report(arguments: argparse.Namespace) -> int:
    from flow.cost.vendor_reports.kinds import read_reports
    from flow.pipeline import keep_figures, write_comparison, write_page

    if len(arguments.run_dirs) > 1:
        if arguments.format is not None or arguments.vendor:
            raise SpecError(f"--format and --vendor are for one run; {len(arguments.run_dirs)} were given")
        output = arguments.output or Path("comparison.html")
        reports = [_found_report(run_dir) for run_dir in arguments.run_dirs]
        write_comparison(reports, output)
        print(f"{len(arguments.run_dirs)} runs side by side: {output}")
        return int(any(report.is_outdated for report in reports))
    if arguments.output is not None:
        raise SpecError("--output is for several runs; the page of one lies in its directory, as report.html")
    run_dir, figures = arguments.run_dirs[0], read_reports(arguments.vendor)
    report = _found_report(run_dir).with_resources(*figures)
    try:
        if figures:
            keep_figures(run_dir, *figures)
        write_page(run_dir, report)
    except OutputError as error:  # a run that is only read can be reported all the same
        unkept = ", and the figures of --vendor are not kept" if figures else ""
        report = report.with_notes(f"its page is not written again{unkept}: {error}")
    _print_report(report, arguments.format or "text")
    return int(report.is_outdated)


def _calibrate(arguments: argparse.Namespace) -> int:
    from flow.cost.calibration import FILE, learn, of_own_design, write
    from flow.runs import outside_runs

    roots = {run_dir.resolve().parents[2] for run_dir in arguments.run_dirs}
    if arguments.to is None and len(roots) > 1:
        raise SpecError("the runs lie in several places", field="--to", remedy="say where the factors go: --to FILE")
    path = arguments.to or min(roots) / FILE
    outside_runs(path)
    kept, left_out = of_own_design([_found_report(run_dir).to_json() for run_dir in arguments.run_dirs])
    learned = learn(kept)
    for each in left_out:
        print(f"flow: warning: left out: {printable(each)}", file=sys.stderr)
    write(path, learned)
    if arguments.json:
        print(json_text(learned))
        return 0
    for group, entry in learned["groups"].items():
        print(f"{group}: {counted(len(entry['runs']), 'run')}, {', '.join(entry['tools'])}")
        for key, factor in entry["factors"].items():
            ends = f"{factor['low']:.2f} to {factor['high']:.2f}"
            print(f"  {key}: times {factor['factor']:.2f} ({ends}; {counted(factor['pairs'], 'count')})")
    print(f"kept in {path}: builds with --output {path.parent} use it")
    return 0


def _found_report(run_dir: Path) -> Report:
    """Return the report of a run, with vendor reports found in it."""
    from flow.cost.vendor_reports.kinds import find_reports
    from flow.pipeline import load_report

    report = load_report(run_dir)
    places = ("project", "csynth", "vivado")
    return report.with_resources(*(each for place in places for each in find_reports(run_dir / place)))


def _print_report(report: Report, form: str) -> int:
    from flow.report.text import to_markdown, to_text

    with suppress(BrokenPipeError):  # who read has seen enough; the verdict stands
        if form == "json":
            print(json_text(report.to_json()))
        else:
            print(to_markdown(report) if form == "markdown" else to_text(report))
    return report.exit_code


def _export(arguments: argparse.Namespace) -> int:
    from flow.pipeline import export

    asked = {name: getattr(arguments, name) for name in ("samples", "interface", "tdata_bits", "board")}
    record = export(arguments.run_dir, arguments.to, **asked)
    if arguments.json:
        print(json_text(record))
    else:
        print(f"{record['model']}: {counted(len(record['files']), 'file')} in {arguments.to}, see its README.md")
    return 0


def _bitstream(arguments: argparse.Namespace) -> int:
    from flow.pipeline import bitstream

    asked: dict[str, Any] = {"samples": arguments.samples, "program": arguments.program}
    with progress(log=True, quiet=arguments.quiet) as announce:
        record = bitstream(arguments.run_dir, arguments.board, **asked, announce=announce)
    if arguments.json:
        print(json_text(record))
    else:
        print(
            f"{record['model']} on {record['board']}: {record['reached_mhz']:.1f} MHz of {record['clock_mhz']} needed"
        )
        print(f"its {record['checked']} give the reference's codes for {counted(record['samples'], 'sample')}")
        print(record["path"])
    return 0


def _encrypt(arguments: argparse.Namespace) -> int:
    from flow.pipeline.encryption import encrypt, to_text

    asked: dict[str, Any] = {"scheme": arguments.scheme, "samples": arguments.encrypted_samples}
    with progress(log=True, quiet=arguments.quiet) as announce:
        made = options.read_options(arguments)
        report = encrypt(arguments.model, arguments.to, **asked, options=made, announce=announce)
    print(json_text(report) if arguments.json else printable(to_text(report), "\n"))
    return int(not report["verdict"]["bit_exact"])


def _fuzz(arguments: argparse.Namespace) -> int:
    from flow.verification.fuzz import fuzz, replay

    if arguments.replay is not None:
        outcome = replay(arguments.replay)
        print(printable(f"{outcome.name}: {outcome.status}" + (f": {outcome.reason}" if outcome.reason else ""), "\n"))
        return _exit_code([outcome.status])
    for option, value, low, high in (("models", arguments.models, 1, 10**6), ("seed", arguments.seed, 0, 1 << 63)):
        if not low <= value <= high:
            raise SpecError(f"--{option} {shown(value)} is not within {low} to {high}")
    with progress(log=True, quiet=arguments.quiet) as announce:
        summary = fuzz(arguments.models, arguments.seed, arguments.output, announce, scheduler=arguments.scheduler)
    print(printable(summary.to_text(), "\n"))
    return _exit_code([outcome.status for outcome in summary.outcomes])


def _exit_code(statuses: Sequence[str]) -> int:
    """Return 1 if the outputs of a model differ, else 4 if one crashed."""
    from flow.verification.fuzz import CRASHED, DIFFERS

    return 1 if DIFFERS in statuses else BUG if CRASHED in statuses else 0


def _study(arguments: argparse.Namespace) -> int:
    from flow.study.document import write_study
    from flow.study.measure import find_circuits, measure

    if arguments.what != "quantizers":
        raise SpecError(f"there is no study '{arguments.what}'", remedy="there is 'quantizers'")
    circuits = find_circuits([name for name in arguments.circuits.split(",") if name])
    with progress(log=True, quiet=arguments.quiet) as announce:
        costs = measure(circuits, arguments.output / "build" / "study", announce=announce)
    files = write_study(costs, arguments.output)
    print(f"{counted(len(costs.rows), 'requantizer')} measured: {', '.join(str(path) for path in files)}")
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        what = f"package 'shtab' cannot be imported ({error})"
        raise ToolMissingError(what, remedy="run: pip install 'po2flow[completion]'") from error
    parser = _parser()
    commands: Mapping[str, Any] = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    for sub in commands.values():
        sub.settle()
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from flow.doctor import examine

    findings = examine()
    if arguments.json:
        print(json_text({"schema": 1, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{'ok     ' if finding.ok else 'missing'} {finding.what:29} {finding.found}")
            print(f"        {'needed' if finding.required else 'optional, needed'} for {finding.needed_for}")
            if not finding.ok:
                print(f"        to have it: {finding.remedy}")
    return 3 if any(finding.required and not finding.ok for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
