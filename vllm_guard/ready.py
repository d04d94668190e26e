"""Who is told that a server is ready: systemd, and a command of the user's."""

from __future__ import annotations

import os

from vllm_guard import leftovers, libc, voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from subprocess import Popen
else:
    import _signal as signal

_PR_SET_PDEATHSIG = 1
_PATIENCE = 2.0  #: seconds from SIGTERM to SIGKILL


def notify(env: Mapping[str, str], state: str) -> None:
    """Tell the service manager, if one listens: sd_notify(3). A lost word must not disturb the run.

    `state`: lines such as `READY=1`. An address that begins with `@` is an abstract one.
    """
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

    name = os.fsencode(address)
    if address.startswith("@"):
        name = b"\0" + name[1:]
    try:
        with socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode("utf-8", "backslashreplace"), name)
    except OSError:
        return


class Command:
    """`--on-ready`: a line for the shell, started once, in a session of its own, ended with the run."""

    def __init__(self, line: str, env: Mapping[bytes, bytes]) -> None:
        self._line = line
        self._env = env
        self._process: Popen[bytes] | None = None
        self._started = False

    def start(self) -> None:
        """Start it, if there is one; it writes to our stderr."""
        if not self._line:
            return
        from subprocess import DEVNULL, Popen

        words = ["/bin/sh", "-c", self._line]
        self._started = True
        try:
            self._process = Popen(
                words,
                stdin=DEVNULL,
                stdout=2,
                env=self._env,
                start_new_session=True,
                preexec_fn=_die_with_us,  # noqa: PLW1509  (there is one thread)
            )
        except OSError as error:
            voice.say(f"warn on-ready: not started: {error.strerror}", "warn")

    def look(self) -> None:
        """Has it ended? A failure is a warning, once."""
        if self._process is None or self._process.poll() is None:
            return
        status, self._process = self._process.returncode, None
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"exited {status}"
            voice.say(f"warn on-ready: {how}", "warn")

    def end(self) -> None:
        """The run is over, and so is this, with what it started: in sessions of their own, too."""
        if self._process is not None:
            self._end_group(self._process)
        if self._started:
            leftovers.end_tagged(os.fsdecode(self._env.get(leftovers.TOKEN.encode(), b"")))

    def _end_group(self, process: Popen[bytes]) -> None:
        from subprocess import TimeoutExpired

        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
            try:
                process.wait(_PATIENCE)
            except TimeoutExpired:
                continue
            break


def _die_with_us() -> None:
    libc.call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
