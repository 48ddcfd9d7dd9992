# SPDX-License-Identifier: MIT
"""What peers.py calls, in a module of its own, so that functions travel by name."""
import os
import struct
import time

CALL = struct.Struct("<QQ")


def work(steps):
    for _ in range(steps):
        pass


def serve(arg):
    n, steps = CALL.unpack(arg)
    work(steps)
    return CALL.pack(n * n & 0xFFFFFFFFFFFFFFFF, os.getpid())


def echo(data):
    return data


def hold(path):
    while os.path.exists(path):
        time.sleep(0.01)


def sleep_long(_):
    time.sleep(60)
