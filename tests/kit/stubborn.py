"""Ignores every signal that can be ignored, in two processes, and waits."""

import os
import signal

for number in signal.valid_signals():
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
os.fork()
while True:
    signal.pause()
