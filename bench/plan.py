# SPDX-License-Identifier: MIT
"""What is measured, and what is to be reached: the programs, the measurements, the claims."""
import os
import shutil
from dataclasses import dataclass

PYTHON = next(p for p in ("/usr/bin/python3", shutil.which("python3")) if p and os.path.exists(p))
PEERS_PY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
MPI = ["mpiexec", "--oversubscribe", "-n"]


@dataclass(frozen=True)
class Program:
    key: str
    title: str
    command: list  # {build} is the directory of the built programs

    def version_command(self):
        return MPI + ["1", PYTHON, PEERS_PY, "mpi"] if self.key == "mpi" else self.command


def built(key, title):
    return Program(key, title, ["{build}/bench_" + key])


PROGRAMS = {
    p.key: p
    for p in (
        built("ours", "procpool"),
        built("raw", "two bare processes"),
        built("glib", "GLib GThreadPool"),
        built("uv", "libuv work queue"),
        built("tbb", "oneTBB enqueue"),
        built("tbb_group", "oneTBB task_group (caller helps)"),
        built("openmp", "OpenMP tasks (caller helps)"),
        built("async", "std::async"),
        Program("executor", "CPython ProcessPoolExecutor", [PYTHON, PEERS_PY, "executor"]),
        Program("pool", "CPython multiprocessing.Pool", [PYTHON, PEERS_PY, "pool"]),
        Program("joblib", "joblib (loky)", [PYTHON, PEERS_PY, "joblib"]),
        Program("mpi", "mpi4py.futures", MPI + ["3", PYTHON, "-m", "mpi4py.futures", PEERS_PY, "mpi"]),
    )
}

PYTHONS = ("executor", "pool", "joblib", "mpi")
THREADS = ("glib", "uv", "tbb", "async")  # they hand calls over, as we do
POOLS = THREADS + ("tbb_group", "openmp")  # in the program's own process
SLEEPERS = ("glib", "uv", "async")  # of these, those that do not spin between calls that come back to back
HELPERS = ("tbb_group", "openmp")  # who waits runs calls itself

GROUPS = {
    "round": "One empty call, from submit to result, one at a time",
    "asleep": "The same when everybody sleeps",
    "stream": "Empty calls submitted one by one, a future for each, then waited for",
    "map": "A map in chunks of 1,024 or of a measured size, elements of 100 ns",
    "echo": "There and back: copied in by the caller and back by the worker, read in place",
    "start": "From a launcher that has rested, or not, to a pool's first result; a pool's end; a crash; bare forks",
    "memory": "Memory per pending empty call, besides the caller's own record",
    "kill": "kill -9 of a busy worker, until its future fails, and from there to the next result",
    "busy": "Calls that work, on two workers, of a static split over two bare processes",
    "scale": "What a call costs with more workers, more pending calls, more threads",
    "mixed": "One call in a hundred lasts 10 ms, the others 5 us: how long the others wait to begin",
}


# Why a program has no row in a group. Each program has one, or stands here.
NOT_MEASURED = {
    "map": {
        "have no map": ("glib", "uv", "async"),
        "have loops in which the caller takes part, and no calls are handed over": ("tbb", "tbb_group", "openmp"),
    },
    "start": {"mpiexec starts its workers, before the program": ("mpi",)},
    "memory": {
        "nothing is pending between them": ("raw",),
        "past some number of tasks who submits runs them, so that none is kept": ("openmp",),
        "each call has a thread at once, so that none is pending": ("async",),
    },
    "kill": {
        "a crash ends the program": ("glib", "uv", "tbb", "tbb_group", "openmp", "async"),
        "its call never ends": ("pool",),
        "a crash ends the whole job": ("mpi",),
    },
    "busy": {"are the static split": ("raw",)},
    "scale": {
        "procpool's own growth, against its own first size": (
            *("raw", "glib", "uv", "tbb", "tbb_group", "openmp", "async"),
            *("executor", "pool", "joblib", "mpi"),
        ),
    },
    "mixed": {
        "have no queue": ("raw",),
        "a call costs them more than the time between two of these": ("executor", "pool", "joblib", "mpi"),
    },
}

# What some that have rows in a group are not measured at, and why.
MEASURED_IN_PART = {
    "asleep": "Other pools after 1 ms only: back to back, those that sleep do so in the round trips above.",
    "scale": "As completed and by waiting the calls are over at once (one pp_wait or two have them all), or sleep.",
    "map": "Python's pools map empty elements: 100 ns are less than such an element costs them.",
    "busy": "std::async and Python's pools have no rows where a call costs them more than it works.",
    "echo": "1 GiB of procpool and the limit only, and of Python's pools but the executor 1 MiB and 64 MiB only: they "
    "take long. By mapping: among threads that is their round trip; Python's pools have no buffers to lend to a call.",
}


@dataclass(frozen=True)
class Measurement:
    group: str
    label: str  # with the program, the measurement's name
    program: str
    workload: str
    full: tuple  # parameters
    quick: tuple  # None: not in a quick run
    rare: bool  # in the first passes only

    @property
    def key(self):
        return self.program, self.label


class Plan(list):
    def add(self, group, label, programs, workload, full, quick=(), rare=False):
        programs = (programs,) if isinstance(programs, str) else programs
        for program in programs:
            params = tuple(map(str, full)), None if quick is None else tuple(map(str, quick or full))
            self.append(Measurement(group, label, program, workload, *params, rare))


SIZES = {"64 B": 64, "4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "64 MiB": 64 << 20, "1 GiB": 1 << 30}
ECHOES = {"64 B": 10000, "4 KiB": 5000, "64 KiB": 1000, "1 MiB": 200, "64 MiB": 25, "1 GiB": 2}
MAPS = {  # elements in a chunk (0: found by measuring), and where they lie
    "map": (1024, "private"),
    "measured map": (0, "private"),
    "map in buffers": (1024, "buffers"),
    "measured map in buffers": (0, "buffers"),
}
BUSY = {1: 200000, 10: 40000, 100: 4000, 1000: 400}  # microseconds: calls
WORKERS = (1, 2, 4, 16, 64, 256)
PENDING = (1000, 10000, 100000, 1000000, 10000000)
COMPLETED = (1000, 10000, 100000)
ASLEEP_US = 50  # a call, so that it is not over when it is waited for
BYSTANDERS = (0, 1, 8)
SUBMITTERS = (1, 2, 4, 8)
WAITERS = (1, 2, 4, 8)
METHODS = ("fork", "forkserver")
OWNERS = {"small": ("0", "after"), "1 GiB after": ("1024", "after"), "1 GiB before": ("1024", "before")}


def add_latency(plan):
    plan.add("round", "spin", "raw", "round_trip", ("spin", 100000, 0), ("spin", 20000, 0))
    plan.add("round", "call", "ours", "round_trip", (50000, 0), (10000, 0))
    plan.add("round", "call", ("glib", "uv", "tbb"), "round_trip", (20000, 0), (4000, 0))
    plan.add("round", "call", HELPERS, "round_trip", (50000, 0), (10000, 0))
    plan.add("round", "call", "async", "round_trip", (5000, 0), (2000, 0))
    plan.add("round", "call", PYTHONS, "round_trip", (2000, 0), (200, 0), rare=True)
    for label, calls, quick, pause in (("back to back", 20000, 4000, 0), ("after 1 ms", 1000, 150, 1000)):
        plan.add("asleep", label, "raw", "round_trip", ("sleep", calls, pause), ("sleep", quick, pause))
        plan.add("asleep", label, "ours", "asleep", (calls, pause), (quick, pause))
    plan.add("asleep", "default, after 1 ms", "ours", "round_trip", (1000, 1000), (150, 1000))
    plan.add("asleep", "after 1 ms", THREADS, "round_trip", (1000, 1000), (150, 1000))
    plan.add("asleep", "after 1 ms", HELPERS, "round_trip", (1000, 1000), (150, 1000), rare=True)
    plan.add("asleep", "after 1 ms", PYTHONS, "round_trip", (200, 1000), None, rare=True)


def add_throughput(plan):
    plan.add("stream", "stream", "ours", "stream", (1000000,), (300000,))
    plan.add("stream", "in arrays of 64", "ours", "arrays", (1000000, 64), (300000, 64))
    plan.add("stream", "the manager meanwhile", "ours", "manager", (1000000,), (300000,))
    plan.add("stream", "a ring each way", "raw", "stream", (1000000,), (300000,))
    plan.add("stream", "stream", ("glib", "uv", "tbb") + HELPERS, "stream", (1000000,), (300000,))
    plan.add("stream", "stream", "async", "stream", (500,))
    plan.add("stream", "stream", ("executor", "pool"), "stream", (20000,), (2000,), rare=True)
    plan.add("stream", "stream", ("joblib", "mpi"), "stream", (20000,), None, rare=True)
    for label, (chunk, where) in MAPS.items():
        plan.add("map", label, "ours", "map", (10000000, 100, chunk, where), (1000000, 100, chunk, where))
    plan.add("map", "dealt by hand", "raw", "chunks", (10000000, 100), (1000000, 100))
    plan.add("map", "empty map", PYTHONS, "map", (500000,), None, rare=True)
    for us, calls in BUSY.items():
        plan.add("busy", f"{us} us", "ours", "busy", (us, calls), (us, calls // 8))
        plan.add("busy", f"{us} us", ("glib", "uv", "tbb"), "busy", (us, calls), None, rare=True)
        plan.add("busy", f"{us} us", HELPERS, "busy", (us, calls // 4), None, rare=True)
    for us, calls in ((100, 400), (1000, 200)):
        plan.add("busy", f"{us} us", "async", "busy", (us, calls), None, rare=True)
    plan.add("busy", "1000 us", PYTHONS, "busy", (1000, 100), None, rare=True)
    plan.add("mixed", "mixed", ("ours", "glib"), "mixed", (20000,), (5000,))
    plan.add("mixed", "mixed", ("uv", "tbb", "async") + HELPERS, "mixed", (10000,), None, rare=True)


def add_echoes(plan):
    for label in ("4 KiB", "1 MiB", "64 MiB"):
        plan.add("echo", f"memcpy of {label}", "raw", "copy", (SIZES[label], max(10, (1 << 28) // SIZES[label])))
    for label, size in SIZES.items():
        huge = size >= 1 << 30
        quick = None if huge else (size, max(3, ECHOES[label] // 5))
        full = (size, ECHOES[label])
        plan.add("echo", label, "ours", "echo", full, quick, rare=huge)
        plan.add("echo", label, "raw", "echo", full, quick, rare=huge)
        plan.add("echo", f"{label} by mapping", ("ours", "raw"), "mapping", (size, 5000), (size, 1000), rare=huge)
        if not huge:
            quick = (size, 20) if size < 1 << 24 else None
            plan.add("echo", label, "executor", "echo", (size, min(500, ECHOES[label])), quick, rare=True)
            some = min(ECHOES[label], (1 << 30) // size)
            plan.add("echo", label, POOLS, "echo", (size, some), None, rare=True)
    for label, calls in (("1 MiB", 50), ("64 MiB", 3)):
        plan.add("echo", label, ("pool", "joblib", "mpi"), "echo", (SIZES[label], calls), None, rare=True)


def add_lives(plan):
    plan.add("start", "fork and wait, small", "raw", "fork", (0, 300), (0, 60))
    plan.add("start", "fork and wait, 1 GiB", "raw", "fork", (1024, 20), (1024, 5), rare=True)
    for method in METHODS:
        for label, owner in OWNERS.items():
            large = label != "small"
            quick = (method, *owner, 5 if large else 15)
            if (method, label) == ("forkserver", "1 GiB before"):
                quick = None
            for suffix, workload in (("", "start"), (": crashes", "crash")):
                row, full = f"{method}, {label}{suffix}", (method, *owner, 25)
                plan.add("start", row, "ours", workload, full, quick, rare=large)
    plan.add("start", "start", ("executor", "pool"), "start", (10,), (2,), rare=True)
    plan.add("start", "start", "joblib", "start", (5,), None, rare=True)
    plan.add("start", "start", POOLS, "start", (30,), (10,))
    plan.add("kill", "kill", "raw", "kill", (0, 50), (0, 20))
    plan.add("kill", "kill, 1 GiB", "raw", "kill", (1024, 20), None, rare=True)
    plan.add("kill", "kill", "ours", "kill", (50,), (20,))
    plan.add("kill", "kill", "executor", "kill", (10,), (2,), rare=True)
    plan.add("kill", "kill", "joblib", "kill", (2,), None, rare=True)


def add_growth(plan):
    plan.add("memory", "memory", ("ours", "glib", "uv", "tbb", "tbb_group"), "memory", (1000000,), (200000,), rare=True)
    plan.add("memory", "memory", ("executor", "pool"), "memory", (100000,), None, rare=True)
    plan.add("memory", "memory", ("joblib", "mpi"), "memory", (10000,), None, rare=True)
    for workers in WORKERS:
        plan.add("scale", f"{workers} workers", "ours", "workers", (workers, 4000), (workers, 800))
    for pending in PENDING:
        quick = None if pending > 1000000 else ()
        plan.add("scale", f"{pending} pending", "ours", "pending", (pending,), quick, rare=pending >= 1000000)
    for count in COMPLETED:
        large = count > 10000
        for what, workload in (("as completed", "completed"), ("by waiting", "waited")):
            quick = None if large else ()
            plan.add("scale", f"{count} {what}", "ours", workload, (count, 0))
            plan.add("scale", f"{count} {what}, asleep", "ours", workload, (count, ASLEEP_US), quick, rare=large)
    for threads in SUBMITTERS:
        plan.add("scale", f"{threads} submitting", "ours", "threads", (threads, 1000000), (threads, 20000))
    for threads in WAITERS:
        plan.add("scale", f"{threads} waiting", "ours", "waiters", (threads, 80000), (threads, 8000))
    for threads in BYSTANDERS:
        plan.add("scale", f"{threads} standing by", "ours", "beside", (threads, 4000), (threads, 400))


def check_reasons(plan):
    """That no program is left out of a group silently."""
    for group in GROUPS:
        rows = {m.program for m in plan if m.group == group}
        named = [program for programs in NOT_MEASURED.get(group, {}).values() for program in programs]
        if sorted([*rows, *named]) != sorted(PROGRAMS):
            raise ValueError(f"{group}: each program has a row, or a reason for having none")


def measurements():
    plan = Plan()
    for add in (add_latency, add_throughput, add_echoes, add_lives, add_growth):
        add(plan)
    check_reasons(plan)
    return sorted(plan, key=lambda m: list(GROUPS).index(m.group))


# ---------------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class Claim:
    """The figure of `top`, or its ratio to `bottom`'s, is at most (or at least) `limit`."""

    text: str
    top: tuple  # (program, label), metric
    bottom: tuple  # or a list of (times, figure), whose sum counts; None: the figure itself is meant
    limit: float
    at_most: bool = True
    unit: str = "x"

    def addends(self):
        if self.bottom is None:
            return []
        return self.bottom if isinstance(self.bottom, list) else [(1, self.bottom)]


def ours(label, metric="p50"):
    return ("ours", label), metric


def other(program, label, metric="p50"):
    return (program, label), metric


def claims_of_calls():
    for metric, which in (("p50", ""), ("p99", ", p99")):
        bare = other("raw", "spin", metric)
        yield Claim(f"a round trip{which}, of a bare spinning one", ours("call", metric), bare, 5)
        for peer in ("glib", "uv"):
            of = f"{PROGRAMS[peer].title}'s round trip{which}, of ours"
            yield Claim(of, other(peer, "call", metric), ours("call", metric), 10, False)
    for label in ("back to back", "after 1 ms"):
        yield Claim(f"asleep, {label}: of bare futexes", ours(label), other("raw", label), 1.5)
    yield Claim("by default, after 1 ms: of bare futexes", ours("default, after 1 ms"), other("raw", "after 1 ms"), 1.5)
    for peer in SLEEPERS:
        yield Claim(f"asleep, back to back: of {PROGRAMS[peer].title}", ours("back to back"), other(peer, "call"), 1)
    for peer in THREADS:
        title, at = PROGRAMS[peer].title, other(peer, "after 1 ms")
        yield Claim(f"asleep, after 1 ms: of {title}", ours("after 1 ms"), at, 1)
        yield Claim(f"by default, after 1 ms: of {title}", ours("default, after 1 ms"), at, 1)
    for peer in THREADS + ("tbb_group",):
        at = other(peer, "stream", "rate")
        yield Claim(f"a stream's rate, of {PROGRAMS[peer].title}'s", ours("stream", "rate"), at, 1, False)
    at = other("executor", "stream", "rate")
    yield Claim("a stream's rate, of CPython's executor's", ours("stream", "rate"), at, 1000, False)
    yield Claim("a map, of a static split", ours("map", "percent"), None, 85, False, "%")
    yield Claim("a map in chunks of a measured size", ours("measured map", "percent"), None, 85, False, "%")
    yield Claim("a map in buffers", ours("map in buffers", "percent"), None, 85, False, "%")
    yield Claim("a map in buffers, measured", ours("measured map in buffers", "percent"), None, 85, False, "%")
    for label in SIZES:
        yield Claim(f"echo of {label}, of two copies by hand", ours(label), other("raw", label), 1)
    for label in SIZES:
        lent, mapped = ours(f"{label} by mapping"), other("raw", f"{label} by mapping")
        yield Claim(f"a buffer of {label}, of passing a warm mapping", lent, mapped, 2)
    for label in list(SIZES)[1:]:
        yield Claim(f"a buffer of {label}, of one of 64 B", ours(f"{label} by mapping"), ours("64 B by mapping"), 1.25)
    at = other("executor", "64 MiB")
    yield Claim("CPython's executor's echo of 64 MiB, of a buffer", at, ours("64 MiB by mapping"), 1000, False)


STARTS = (  # what it is; which row, metric; at most so many bare forks, which are made how
    ("start, rested", "", "first", 3, "rested"),
    ("start, in a row", "", "first_in_a_row", 3, "in_a_row"),
    ("replacement, crashes 10 ms apart", ": crashes", "replaced", 2, "in_a_row"),
    ("replacement, crashes in a row", ": crashes", "replaced_in_a_row", 2, "in_a_row"),
)


def claims_of_starts(method, owner, what, suffix, metric, forks, pace):
    """A process is forked of the owner only by fork; only then may memory that was there before cost one fork of it."""
    row, small = ours(f"{method}, {owner}{suffix}", metric), other("raw", "fork and wait, small", pace)
    how = "in a row" if pace == "in_a_row" else "rested"
    if (method, owner) == ("fork", "1 GiB before"):
        large = other("raw", "fork and wait, 1 GiB", pace)
        of = f"of {forks} bare forks and waits and one of 1 GiB, {how}"
        yield Claim(f"{what}, {method}, {owner}: {of}", row, [(forks, small), (1, large)], 1)
        return
    yield Claim(f"{what}, {method}, {owner}: of a bare fork and wait, {how}", row, small, forks)
    if owner != "small":
        without = ours(f"{method}, small{suffix}", metric)
        yield Claim(f"{what}, {method}, {owner}: of the same without", row, without, 1.25)


def claims_of_lives():
    for method in METHODS:
        for owner in OWNERS:
            for figure in STARTS:
                yield from claims_of_starts(method, owner, *figure)
    yield Claim("bytes per pending call", ours("memory", "resident"), None, 128, True, "B")
    bare = other("raw", "kill", "failed")
    yield Claim("kill -9 to the failure, of a bare pidfd's poll", ours("kill", "failed"), bare, 2)
    row, bare = ours("fork, 1 GiB before: crashes", "failed"), other("raw", "kill, 1 GiB", "failed")
    yield Claim("a crash to its failure, fork, 1 GiB before: of a bare pidfd's poll of that", row, bare, 2)
    yield Claim("from there to the next result", ours("kill", "next"), None, 1, True, "ms")


def claims_of_load():
    for us, percent in zip(BUSY, (60, 90, 96, 98)):
        yield Claim(f"calls of {us} us, of a static split", ours(f"{us} us", "percent"), None, percent, False, "%")
    for sizes, what, metric in (
        (WORKERS, "workers", "cost"),
        (PENDING, "pending", "cost"),
        (COMPLETED, "as completed", "cost"),
        (COMPLETED, "as completed, asleep", "cpu"),
        (COMPLETED, "by waiting, asleep", "cpu"),
        (SUBMITTERS, "submitting", "cost"),
        (WAITERS, "waiting", "cost"),
        (BYSTANDERS, "standing by", "cost"),
    ):
        cost = "the owner's processor time for a call" if metric == "cpu" else "a call's cost"
        for size in sizes[1:]:
            one, many = ours(f"{sizes[0]} {what}", metric), ours(f"{size} {what}", metric)
            yield Claim(f"{cost} with {size:,} {what}, of that with {sizes[0]:,}", many, one, 1.25)
    at = ours(f"{WORKERS[-1]} workers", "descriptors")
    yield Claim("the owner's descriptors for a worker", at, None, 3, True, "")
    yield Claim("short calls among long ones, p99, of GLib's", ours("mixed", "p99"), other("glib", "mixed", "p99"), 2)


def claims():
    return [*claims_of_calls(), *claims_of_lives(), *claims_of_load()]
