"""load: `vllm serve` with made-up weights until it answers. What it leaves is the guard's to end."""

import signal
import subprocess
import time
import urllib.request


def run(report, ask):
    report.say("serve", "begin")
    start = time.monotonic()
    server = subprocess.Popen(ask["argv"], stdin=subprocess.DEVNULL)
    while server.poll() is None and not _answers(ask["port"]):
        time.sleep(0.2)
    seconds = time.monotonic() - start
    if server.returncode is None:
        report.say("serve", "ok", f"ready after {seconds:.1f} s")
        server.send_signal(signal.SIGTERM)
        server.wait()
    else:
        report.say("serve", "fail", f"ended with status {server.returncode} after {seconds:.1f} s")


def _answers(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
