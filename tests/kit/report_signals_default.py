"""Prints `ready PID` and waits, with the dispositions it inherited, restored to C's for SIGINT."""

import os
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)
os.write(1, b"ready %d\n" % os.getpid())
while True:
    signal.pause()
