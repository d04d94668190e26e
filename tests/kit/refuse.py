"""Run a command under a seccomp filter that refuses what some sandboxes refuse: `refuse COMMAND...`.

prctl(PR_SET_CHILD_SUBREAPER) and pidfd_open fail with EPERM, clone3 with ENOSYS (as Docker's profile does).
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_SECCOMP, MODE_FILTER, PR_SET_NO_NEW_PRIVS, SUBREAPER = 22, 2, 38, 36
PRCTL = {"x86_64": 157, "aarch64": 167}[platform.machine()]
PIDFD_OPEN, CLONE3 = 434, 435
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data

PROGRAM = (
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 4, 0, PIDFD_OPEN),  # to EPERM
    (EQUAL, 4, 0, CLONE3),  # to ENOSYS
    (EQUAL, 0, 4, PRCTL),  # else: allow
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (EQUAL, 0, 2, SUBREAPER),
    (RETURN, 0, 0, REFUSE | errno.EPERM),
    (RETURN, 0, 0, REFUSE | errno.ENOSYS),
    (RETURN, 0, 0, ALLOW),
)

code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in PROGRAM))
program = ctypes.create_string_buffer(struct.pack("@HP", len(PROGRAM), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
for words in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, program, 0, 0)):
    if libc.prctl(*words) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
os.execvp(sys.argv[1], sys.argv[1:])
