# SPDX-License-Identifier: MIT
"""Python's pools, measured as the others are: peers.py PEER WORKLOAD [PARAMETER...].

A call carries 16 bytes each way, and each answer tells the process that made it. Exit status 77: not installed.
"""
import importlib
import multiprocessing
import os
import platform
import signal
import statistics
import struct
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

from peer_tasks import CALL, echo, hold, serve, sleep_long, work

WORKERS = 2
CHUNK = 1024
TIME = struct.Struct("d")


class Executor:
    """What has submit and map as concurrent.futures has them."""

    def __init__(self):
        self.pool = ProcessPoolExecutor(WORKERS)

    def submit(self, function, arg):
        return self.pool.submit(function, arg).result

    def map(self, function, args):
        return self.pool.map(function, args, chunksize=CHUNK)

    def close(self):
        self.pool.shutdown()

    @staticmethod
    def version():
        return f"CPython {platform.python_version()} concurrent.futures.ProcessPoolExecutor"


class Pool(Executor):
    def __init__(self):
        self.pool = multiprocessing.Pool(WORKERS)

    def submit(self, function, arg):
        return self.pool.apply_async(function, (arg,)).get

    def close(self):
        self.pool.close()
        self.pool.join()

    @staticmethod
    def version():
        return f"CPython {platform.python_version()} multiprocessing.Pool"


class Joblib(Executor):
    def __init__(self):
        loky = importlib.import_module("joblib.externals.loky")
        self.pool = loky.ProcessPoolExecutor(WORKERS)

    @staticmethod
    def version():
        return f"joblib {importlib.import_module('joblib').__version__} (loky)"


class Mpi(Executor):
    def __init__(self):
        self.pool = importlib.import_module("mpi4py.futures").MPIPoolExecutor()

    @staticmethod
    def version():
        library = importlib.import_module("mpi4py.MPI").Get_library_version().split(",")[0]
        return f"mpi4py {importlib.import_module('mpi4py').__version__} ({library})"


PEERS = {"executor": Executor, "pool": Pool, "joblib": Joblib, "mpi": Mpi}


def report(metric, value, unit):
    print(sys.argv[2], metric, f"{value:.6g}", unit)


def call_of(n, steps=0):
    return CALL.pack(n, steps)


def check(answers):
    for n, answer in enumerate(answers):
        square, pid = CALL.unpack(answer)
        if square != n * n or pid == os.getpid():
            sys.exit(f"a wrong answer to call {n}")


def run_all(pool, count, steps=0):
    """Begins `count` calls, then waits for all of them."""
    return [result() for result in [pool.submit(serve, call_of(n, steps)) for n in range(count)]]


def round_trip(peer, count, pause):
    pool, times, answers = peer(), [], []
    check(run_all(pool, 20))
    for n in range(count):
        time.sleep(pause / 1e6)
        begin = time.perf_counter()
        answers.append(pool.submit(serve, call_of(n))())
        times.append(time.perf_counter() - begin)
    check(answers)
    pool.close()
    times.sort()
    report("p50", times[count // 2] * 1e6, "us")
    report("p99", times[count * 99 // 100] * 1e6, "us")


def stream(peer, count):
    pool = peer()
    check(run_all(pool, 20))
    begin = time.perf_counter()
    answers = run_all(pool, count)
    took = time.perf_counter() - begin
    check(answers)
    pool.close()
    report("rate", count / took / 1e6, "M/s")


def steps_of(seconds):
    """How many steps last so long, by the clock."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        work(100000)
        times.append((time.perf_counter() - begin) / 100000)
    return round(seconds / min(times))


def serve_part(calls, go, times):
    """A part of the split, in a process of its own; tells the time when it is ready and when its last call is over."""
    status = 1
    try:
        os.write(times, TIME.pack(time.perf_counter()))
        os.read(go, 1)
        for call in calls:
            serve(call)
        os.write(times, TIME.pack(time.perf_counter()))
        status = 0
    finally:
        os._exit(status)


def latest_of(times):
    return max(TIME.unpack(os.read(times, TIME.size))[0] for _ in range(WORKERS))


def split(count, steps):
    """Seconds from the go, when the bare processes are ready, to the end of the later one's last call."""
    go, times = os.pipe(), os.pipe()
    calls = [call_of(n, steps) for n in range(count)]
    pids = []
    for part in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            serve_part(calls[part::WORKERS], go[0], times[1])
        pids.append(pid)
    os.close(times[1])  # a part that died is read as an end
    latest_of(times[0])
    begin = time.perf_counter()
    os.write(go[1], b"." * WORKERS)
    for pid in pids:
        if os.waitpid(pid, 0)[1] != 0:
            sys.exit("a part of the split was not done")
    end = latest_of(times[0])
    for descriptor in (*go, times[0]):
        os.close(descriptor)
    return end - begin


def busy(peer, microseconds, count):
    pool, steps = peer(), steps_of(microseconds / 1e6)
    check(run_all(pool, 20))
    percents, times = [], []
    for _ in range(3):
        alone = split(count, steps)
        begin = time.perf_counter()
        answers = run_all(pool, count, steps)
        times.append(time.perf_counter() - begin)
        check(answers)
        percents.append(alone / times[-1] * 100)
    pool.close()
    report("percent", statistics.median(percents), "%")
    report("time", statistics.median(times) * 1e3, "ms")


def map_empty(peer, count):
    pool = peer()
    check(run_all(pool, 20))
    args = [call_of(n) for n in range(count)]
    begin = time.perf_counter()
    answers = list(pool.map(serve, args))
    took = time.perf_counter() - begin
    check(answers)
    pool.close()
    report("rate", count / took / 1e6, "M/s")


def time_echo(pool, data):
    begin = time.perf_counter()
    back = pool.submit(echo, data)()
    took = time.perf_counter() - begin
    if back != data:
        sys.exit("a wrong echo")
    return took


def echoes(peer, size, count):
    pool, data = peer(), b"a" * size
    time_echo(pool, data)
    report("p50", statistics.median(time_echo(pool, data) for _ in range(count)) * 1e3, "ms")
    pool.close()


def start(peer, count):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        pool = peer()
        answer = pool.submit(serve, call_of(0))()
        times.append(time.perf_counter() - begin)
        check([answer])
        pool.close()
    report("p50", statistics.median(times) * 1e3, "ms")


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def memory(peer, count):
    pool, args = peer(), [call_of(n) for n in range(count)]
    with tempfile.NamedTemporaryFile() as gate:
        for _ in range(WORKERS):
            pool.submit(hold, gate.name)
        time.sleep(0.1)
        before = resident()
        results = [pool.submit(serve, arg) for arg in args]
        report("resident", (resident() - before) / count, "B")
    check([result() for result in results])
    pool.close()


def kill(peer, count):
    """Until the future fails, and from there to the next result, by a new pool."""
    failed, following = [], []
    for _ in range(count):
        pool = peer()
        pid = CALL.unpack(pool.submit(serve, call_of(0))())[1]
        results = [pool.submit(sleep_long, None) for _ in range(WORKERS)]
        time.sleep(0.05)
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        try:
            results[0]()
        except Exception:  # which one is the pool's choice
            pass
        failed.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        after = peer()
        check([after.submit(serve, call_of(0))()])
        following.append(time.perf_counter() - begin)
        after.close()
        pool.close()
    report("failed", statistics.median(failed) * 1e3, "ms")
    report("next", statistics.median(following) * 1e3, "ms")


def version(peer):
    print(peer.version())


WORKLOADS = {
    "version": version,
    "round_trip": round_trip,
    "stream": stream,
    "map": map_empty,
    "busy": busy,
    "echo": echoes,
    "start": start,
    "memory": memory,
    "kill": kill,
}


def main():
    peer, workload, *params = sys.argv[1:]
    try:
        WORKLOADS[workload](PEERS[peer], *map(int, params))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(77)


if __name__ == "__main__":
    main()
