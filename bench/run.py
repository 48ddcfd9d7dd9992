#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures: run.py DIRECTORY-OF-THE-PROGRAMS [--quick] [--only GROUP].

Each measurement is a process of its own with a time limit. All of them run in turn, then all of them again, so that
a machine that becomes slower for a while slows all. Writes results.csv, table.md and plots; the table is printed.
"""
import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import plan
import report

PASSES, QUICK_PASSES = 7, 3
RARE_PASSES, QUICK_RARE_PASSES = 3, 1
LIMIT, QUICK_LIMIT = 120, 20  # seconds, for one measurement
QUICK_BUDGET = 85  # a quick run leaves out a pass that would not be done after so many seconds
ABSENT = 77


class Bench:
    def __init__(self, build, quick, only):
        self.build, self.quick = build, quick
        everything = [m for m in plan.measurements() if only in (None, m.group)]
        self.plan = [m for m in everything if self.params(m) is not None]
        self.left_out = [m for m in everything if self.params(m) is None]
        self.versions, self.missing = {}, {}
        self.failures = {}  # (program, label): why, of the last one
        self.values = defaultdict(dict)  # ((program, label), metric): {pass: value}
        self.units = {}
        self.load = os.getloadavg()
        self.passes = 0
        self.begin = time.monotonic()

    def params(self, measurement):
        return measurement.quick if self.quick else measurement.full

    def execute(self, command):
        """Status, output and the last line of what it complained about; status None: not done in time."""
        command = [part.replace("{build}", self.build) for part in command]
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            return ABSENT, "", error.strerror
        limit = QUICK_LIMIT if self.quick else LIMIT
        try:
            output, complaints = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, "", f"not done in {limit} s"
        lines = [line for line in complaints.splitlines() if line.strip()]
        return process.returncode, output, lines[-1].strip() if lines else f"status {process.returncode}"

    def look(self):
        """Which programs there are, and their versions."""
        for key, program in plan.PROGRAMS.items():
            if key == "raw":
                if not os.path.exists(f"{self.build}/bench_raw"):
                    self.missing[key] = "not built"
                continue
            status, output, why = self.execute(program.version_command() + ["version"])
            if status == 0:
                self.versions[key] = output.strip()
            else:
                self.missing[key] = "not built: its package is not there, or was not then" if status == ABSENT else why

    def measure(self, measurement, turn):
        command = plan.PROGRAMS[measurement.program].command + [measurement.workload, *self.params(measurement)]
        status, output, why = self.execute(command)
        if status != 0:
            self.failures[measurement.key] = why if status == ABSENT else f"failed: {why}"
            return
        for line in output.splitlines():
            _, metric, value, unit = line.split()
            self.values[measurement.key, metric][turn] = float(value)
            self.units[measurement.key, metric] = unit

    def run_some(self, turn, rare):
        begin = time.monotonic()
        for measurement in self.plan:
            if measurement.rare == rare and measurement.program not in self.missing:
                self.measure(measurement, turn)
        print(f"pass {turn + 1}{' of what is rare' if rare else ''}, {time.monotonic() - begin:.0f} s", file=sys.stderr)
        return time.monotonic() - begin

    def run(self):
        self.look()
        rare_passes = QUICK_RARE_PASSES if self.quick else RARE_PASSES
        took = 0
        for turn in range(QUICK_PASSES if self.quick else PASSES):
            if self.quick and time.monotonic() - self.begin + took > QUICK_BUDGET:
                break
            took = self.run_some(turn, False)
            if turn < rare_passes:
                self.run_some(turn, True)
            self.passes = turn + 1

    def write_csv(self, path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["group", "program", "measurement", "metric", "unit", "pass", "value"])
            for measurement in self.plan:
                for (key, metric), values in self.values.items():
                    if key != measurement.key:
                        continue
                    for turn, value in values.items():
                        row = [measurement.group, *key, metric, self.units[key, metric], turn + 1, value]
                        rows.writerow(row)


def main():
    parser = argparse.ArgumentParser(description="Measures procpool beside other pools.")
    parser.add_argument("build", help="directory of the built programs")
    parser.add_argument("--output", default="build/bench", help="directory for the results (build/bench)")
    parser.add_argument("--quick", action="store_true", help="under two minutes, with wider spreads")
    parser.add_argument("--only", choices=plan.GROUPS, help="one group of measurements")
    options = parser.parse_args()
    bench = Bench(os.path.abspath(options.build), options.quick, options.only)
    bench.run()
    os.makedirs(options.output, exist_ok=True)
    bench.write_csv(f"{options.output}/results.csv")
    text = report.table(bench)
    with open(f"{options.output}/table.md", "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    print(report.plots(bench, options.output))
    failed = [key for key, why in bench.failures.items() if why.startswith("failed")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
