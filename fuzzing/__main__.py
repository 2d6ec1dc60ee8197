"""Fuzz each target for its share of the time, and print a table. Exit code 1 if there is a finding.

New inputs that cover more, libFuzzer's log, and findings go to build/fuzzing. With --keep, inputs that cover more
are kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from fuzzing.harness import ROOT, TARGETS, corpus, kept_inputs, load

BUILD = ROOT.parent / "build" / "fuzzing"

SECONDS = 600

#: An input is a finding if it takes more seconds, or more MiB, than this.
INPUT_TIMEOUT = 10
MEMORY_LIMIT = 1024

#: How many seconds a target may take in addition to its share: to start, and to run the kept inputs.
START_TIMEOUT = 120


class Row(NamedTuple):
    """The results of one target."""

    target: str
    executions: int
    rate: int
    inputs: int
    features: int
    findings: list[Path]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzzing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    targets_help = f"{', '.join(TARGETS)}; default: all"
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="target", help=targets_help)
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"for all targets; default: {SECONDS}")
    parser.add_argument("--keep", action="store_true", help="don't fuzz: keep the smallest set of inputs")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install -e '.[fuzzing]', or use make fuzz")
    targets = options.targets or list(TARGETS)
    if options.keep:
        for target in targets:
            keep(target)
            files = list(kept_inputs(target))
            print(f"{target}: {len(files)} inputs, {sum(path.stat().st_size for path in files)} bytes")
        return 0
    total = sum(TARGETS[target] for target in targets)
    rows = []
    for number, target in enumerate(targets):
        print(f"{target} ({number + 1} of {len(targets)})", file=sys.stderr, flush=True)
        rows.append(run(target, max(1, options.seconds * TARGETS[target] // total)))
    print(f"{'target':10}{'executions':>12}{'a second':>10}{'inputs':>8}{'features':>10}{'findings':>10}")
    for row in rows:
        print(
            f"{row.target:10}{row.executions:12}{row.rate:10}{row.inputs:8}{row.features:10}{len(row.findings):10}"
        )
    findings = [path for row in rows for path in row.findings]
    for path in findings:
        print(f"finding: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 1 if findings else 0


def run(target: str, seconds: int) -> Row:
    """Fuzz one target in a process of its own."""
    working = BUILD / "corpus" / target
    working.mkdir(parents=True, exist_ok=True)
    for seed in load(target).seeds():
        (working / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    findings = BUILD / "findings" / target
    shutil.rmtree(findings, ignore_errors=True)
    findings.mkdir(parents=True)
    log = BUILD / f"{target}.log"
    code = libfuzzer(
        target,
        log,
        working,
        *(folder for folder in (corpus(target), ROOT / "findings" / target) if folder.is_dir()),
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_TIMEOUT}",
        f"-rss_limit_mb={MEMORY_LIMIT}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        seconds=seconds,
    )
    said = log.read_text(errors="replace")
    found = sorted(findings.iterdir())
    if code != 0 and not found:  # libFuzzer did not start, or hung: the log says why
        found = [log]
    return Row(
        target,
        last_number(r"stat::number_of_executed_units: *(\d+)", said),
        last_number(r"stat::average_exec_per_sec: *(\d+)", said),
        last_number(r"corp: (\d+)/", said),
        last_number(r" ft: (\d+)", said),
        found,
    )


def keep(target: str) -> None:
    """Replace the kept inputs by the smallest set that covers the same code as the kept and the new ones."""
    with tempfile.TemporaryDirectory() as folder:
        log = BUILD / f"{target}.keep.log"
        folders = [path for path in (corpus(target), BUILD / "corpus" / target) if path.is_dir()]
        code = libfuzzer(target, log, Path(folder), *folders, "-set_cover_merge=1", seconds=SECONDS)
        if code != 0 or not any(Path(folder).iterdir()):
            raise SystemExit(f"can't merge the inputs of {target}: see {log}")
        shutil.rmtree(corpus(target), ignore_errors=True)
        shutil.copytree(folder, corpus(target))


def libfuzzer(target: str, log: Path, *arguments: Path | str, seconds: int) -> int:
    """Run libFuzzer with a target in a process of its own; return its exit code, or -1 if it was killed."""
    command = [sys.executable, "-m", "fuzzing.harness", target, *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        try:
            return subprocess.run(
                command,
                cwd=ROOT.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds + START_TIMEOUT,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return -1


def last_number(pattern: str, text: str) -> int:
    numbers = re.findall(pattern, text)
    return int(numbers[-1]) if numbers else 0


if __name__ == "__main__":
    sys.exit(main())
