"""Prints what it inherited, as JSON: argv and environment (hex), signal masks, descriptors, cwd, ids."""

import json
import os
import sys

with open("/proc/self/status") as file:
    STATUS = file.read()
status = dict(line.split(":\t", 1) for line in STATUS.splitlines() if ":\t" in line)
with open("/proc/self/cmdline", "rb") as file:
    argv = file.read().split(b"\0")[:-1]
with open("/proc/self/environ", "rb") as file:
    environ = file.read().split(b"\0")[:-1]
fds = {}
for name in os.listdir("/proc/self/fd"):
    try:
        fds[name] = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
fds = {name: path for name, path in fds.items() if not path.startswith("/proc/")}
json.dump(
    {
        "argv": [word.hex() for word in argv],
        "environ": [entry.hex() for entry in environ],
        "SigBlk": status["SigBlk"],
        "SigIgn": status["SigIgn"],
        "SigCgt": status["SigCgt"],
        "fds": fds,
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "pgid": os.getpgrp(),
        "sid": os.getsid(0),
    },
    sys.stdout,
)
