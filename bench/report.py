# SPDX-License-Identifier: MIT
"""The table and the plots of a run."""
import os
import platform
import shutil
import statistics
import subprocess

import plan

# ----------------------------------------------------------------------------------------------------- figures


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def spread(values):
    median = number(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({number(min(values))} to {number(max(values))})"


# ------------------------------------------------------------------------------------------------------ claims


def measured(bench, claim):
    """The figure, from medians of the passes that have all of it, and those of single passes; or None, None."""
    tops = bench.values.get(claim.top)
    bottoms = [(times, bench.values.get(at)) for times, at in claim.addends()]
    if not tops or not all(values for _, values in bottoms):
        return None, None
    if not bottoms:
        return statistics.median(tops.values()), list(tops.values())
    shared = [turn for turn in tops if all(turn in values for _, values in bottoms)]
    if not shared:
        return None, None

    def ratio(turns):
        bottom = sum(times * statistics.median(values[turn] for turn in turns) for times, values in bottoms)
        return statistics.median(tops[turn] for turn in turns) / bottom

    return ratio(shared), [ratio([turn]) for turn in shared]


def why_not(bench, claim):
    for at in (claim.top, *(at for _, at in claim.addends())):
        if at not in bench.values:
            return bench.missing.get(at[0][0]) or bench.failures.get(at[0]) or "in a full run only"
    return "no value"


def claim_row(bench, claim):
    limit = f"{'at most' if claim.at_most else 'at least'} {number(claim.limit)} {claim.unit}"
    value, singles = measured(bench, claim)
    if value is None:
        return f"| {claim.text} | {limit} | | | not measured: {why_not(bench, claim)} |"
    reached = value <= claim.limit if claim.at_most else value >= claim.limit
    around = f"{number(min(singles))} to {number(max(singles))}" if len(singles) > 1 else ""
    verdict = "reached" if reached else "**not reached**"
    return f"| {claim.text} | {limit} | {number(value)} {claim.unit} | {around} | {verdict} |"


def claim_table(bench):
    known = {m.key for m in bench.plan + bench.left_out}
    rows = [claim_row(bench, claim) for claim in plan.claims() if claim.top[0] in known]
    if not rows:
        return []
    reached, unknown = sum(row.endswith("| reached |") for row in rows), sum("| not measured" in row for row in rows)
    title = f"## What is to be reached: {reached} of {len(rows)}, {unknown} not measured"
    return [title, "", "| what | reach | here | single passes | |", "| --- | --- | --- | --- | --- |", *rows, ""]


# ------------------------------------------------------------------------------------------------------- table


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def commit():
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return f"Commit {said.stdout.strip()}." if said.returncode == 0 else ""


def head(bench):
    system = os.uname()
    cores = len(os.sched_getaffinity(0))
    load = f"{bench.load[0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    passes = f"{bench.passes} interleaved {'quick ' if bench.quick else ''}pass{'es' if bench.passes > 1 else ''}"
    lines = [
        "# Measured",
        "",
        f"{processor()}, {cores} processors, {system.sysname} {system.release} {system.machine}; load {load}. "
        f"Medians of {passes} (least to greatest); what takes long is measured in the first ones only. "
        f"Two workers. {commit()}",
        "",
        "Versions: " + "; ".join(bench.versions.values()) + ".",
        "",
    ]
    for key, why in bench.missing.items():
        lines += [f"Missing: {plan.PROGRAMS[key].title} ({why}).", ""]
    return lines


def cell(bench, key):
    parts = []
    for (at, metric), values in bench.values.items():
        if at == key:
            parts.append(f"{metric} {spread(list(values.values()))} {bench.units[at, metric]}")
    if key in bench.failures:
        parts.append(bench.failures[key])
    return "; ".join(parts) or "not measured"


def in_full_only(bench, group):
    labels = {}
    for m in bench.left_out:
        if m.group == group:
            labels.setdefault(plan.PROGRAMS[m.program].title, []).append(m.label)
    named = "; ".join(f"{title}: {', '.join(some)}" for title, some in labels.items())
    return [f"In a full run only: {named}.", ""] if named else []


def not_measured(group):
    """Who has no row in the group, or not all of them, and why."""
    reasons = plan.NOT_MEASURED.get(group, {}).items()
    named = "; ".join(f"{', '.join(plan.PROGRAMS[p].title for p in programs)} ({why})" for why, programs in reasons)
    lines = [f"Not measured: {named}.", ""] if named else []
    in_part = plan.MEASURED_IN_PART.get(group)
    return lines + ([f"Measured in part: {in_part}", ""] if in_part else [])


def group_table(bench, group):
    found = [m for m in bench.plan if m.group == group]
    if not found:
        return []
    lines = [f"## {plan.GROUPS[group]}", "", "| who | what | measured |", "| --- | --- | --- |"]
    for m in found:
        text = "missing" if m.program in bench.missing else cell(bench, m.key)
        lines.append(f"| {plan.PROGRAMS[m.program].title} | {m.label}, {' '.join(bench.params(m))} | {text} |")
    return [*lines, "", *in_full_only(bench, group), *not_measured(group)]


def table(bench):
    lines = head(bench) + claim_table(bench)
    for group in plan.GROUPS:
        lines += group_table(bench, group)
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- plots


def bars(bench, name, title, unit, places, metric):
    """places: (program, label) of each bar."""
    rows = []
    for place in places:
        values = list(bench.values.get((place, metric), {}).values())
        if values:
            rows.append(f'"{plan.PROGRAMS[place[0]].title}" {statistics.median(values)} {min(values)} {max(values)}')
    if not rows:
        return None
    script = [
        "$data << END",
        *rows,
        "END",
        f'set title "{title}"',
        f'set ylabel "{unit}"',
        "set logscale y",
        "set xtics rotate by -35",
        "set style fill solid 0.6",
        "set boxwidth 0.7",
        "unset key",
        'plot $data using 0:2:xtic(1) with boxes, $data using 0:2:3:4 with yerrorbars lc "black" pt 0',
    ]
    return name, "\n".join(script) + "\n"


def curves(bench, name, title, axes, lines, scale):
    """lines: (title, [(x, (program, label), metric)])"""
    blocks, parts = [], []
    for i, (line, points) in enumerate(lines):
        found = [(x, bench.values[at, metric].values()) for x, at, metric in points if (at, metric) in bench.values]
        if not found:
            continue
        rows = "\n".join(f"{x} {statistics.median(v)} {min(v)} {max(v)}" for x, v in found)
        blocks.append(f"$line{i} << END\n{rows}\nEND")
        parts.append(f'$line{i} using 1:2:3:4 with yerrorlines title "{line}"')
    if not parts:
        return None
    script = [
        *blocks,
        f'set title "{title}"',
        f'set xlabel "{axes[0]}"',
        f'set ylabel "{axes[1]}"',
        f"set logscale {scale}",
        "set key below",
        "plot " + ", ".join(parts),
    ]
    return name, "\n".join(script) + "\n"


def all_plots(bench):
    def places(label, **special):
        return [(program, special.get(program, label)) for program in plan.PROGRAMS]

    busy = [
        (plan.PROGRAMS[p].title, [(us, (p, f"{us} us"), "percent") for us in plan.BUSY])
        for p in ("ours", "glib", "uv", "tbb")
    ]
    echo = [
        (plan.PROGRAMS[p].title + suffix, [(size, (p, label + suffix), "p50") for label, size in plan.SIZES.items()])
        for p, suffix in (("ours", ""), ("raw", ""), ("ours", " by mapping"), ("raw", " by mapping"), ("executor", ""))
    ]
    scale = [
        (what, [(size, ("ours", f"{size} {what}"), metric) for size in sizes])
        for sizes, what, metric in (
            (plan.WORKERS, "workers", "cost"),
            (plan.SUBMITTERS, "submitting", "cost"),
            (plan.WAITERS, "waiting", "cost"),
            (plan.COMPLETED, "as completed", "cost"),
            (plan.COMPLETED, "as completed, asleep", "cpu"),
            (plan.COMPLETED, "by waiting", "cost"),
            (plan.COMPLETED, "by waiting, asleep", "cpu"),
        )
    ]
    pending = [
        (what, [(size, ("ours", f"{size} pending"), metric) for size in plan.PENDING])
        for what, metric in (("submit and wait", "cost"), ("submit", "submit"), ("wait", "wait"))
    ]
    return [
        bars(bench, "round_trip", "One empty call, median", "us", places("call", raw="spin"), "p50"),
        bars(bench, "asleep", "One empty call after 1 ms, median", "us", places("after 1 ms"), "p50"),
        bars(bench, "stream", "Empty calls, one by one", "million a second", places("stream"), "rate"),
        curves(bench, "busy", "Of a static split", ("us a call", "%"), busy, "x"),
        curves(bench, "echo", "There and back", ("bytes", "ms"), echo, "xy"),
        curves(bench, "scale", "Cost of a call", ("how many", "us"), scale, "xy"),
        curves(bench, "pending", "Cost of a call among many pending", ("calls", "us"), pending, "x"),
    ]


def mark(path):
    """The licence, as in each file: a drawing may be kept in the repository."""
    with open(path, encoding="utf-8") as file:
        first, rest = file.readline(), file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{first}<!-- SPDX-License-Identifier: MIT -->\n{rest}")


def plots(bench, directory):
    if not shutil.which("gnuplot"):
        return "Missing: gnuplot, so no plots."
    drawn = []
    for name, script in filter(None, all_plots(bench)):
        path = f"{directory}/{name}.svg"
        terminal = f'set terminal svg noenhanced size 900,500 background "white"\nset output "{path}"\n'
        done = subprocess.run(["gnuplot"], input=terminal + script, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            mark(path)
        drawn.append(path if done.returncode == 0 else f"{name} (gnuplot failed: {done.stderr.strip()})")
    return "Plots: " + ", ".join(drawn)
