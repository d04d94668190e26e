"""Leaves escapees: children that setsid, double-fork and ignore what they can. `hydra N [stay]`.

Prints `pids ...` when all are there; with `stay` it waits itself, else it exits 7.
"""

import os
import signal
import sys


def sleeper(ready, ignore):
    if ignore:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    os.write(ready, b"%d " % os.getpid())
    os.close(ready)
    while True:
        signal.pause()


def escape(ready, index):
    if os.fork():
        return
    os.setsid()
    if index % 2 and os.fork():
        os._exit(0)
    sleeper(ready, index % 3)


count = int(sys.argv[1])
read, write = os.pipe()
for index in range(count):
    escape(write, index)
os.close(write)
pids = b""
while len(pids.split()) < count:
    pids += os.read(read, 4096)
os.write(1, b"pids " + b" ".join(pids.split()) + b"\n")
if "stay" in sys.argv:
    while True:
        signal.pause()
sys.exit(7)
