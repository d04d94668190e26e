"""A fork storm of constant size: `storm N SECONDS`. Each process lives that long and forks its successor.

All are in sessions of their own and ignore SIGTERM; it ends after a minute. Prints `ready`, then waits.
"""

import os
import signal
import sys
import time

end = time.monotonic() + 60
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(float(sys.argv[2]))
        os._exit(0)
os.write(1, b"ready\n")
signal.pause()
