"""Where the guard keeps its files, and how it reads and writes them: XDG, private, no symlink followed.

Everything here is on the launch path: `os` only.
"""

from __future__ import annotations

import os
import stat

from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
_PROJECT_MAX = 32 << 10  #: bytes
TAKE_IT = "as git's safe.directory: chown it, or copy the file to your own folder"
PACKAGE = os.path.dirname(os.path.abspath(__file__))


def shipped(name: str) -> str:
    """The folder of that name of the tree; a wheel has it as `_NAME` in the package.

    Raises GuardError when it is not there. Beside a package in site-packages, a folder of that name would be
    somebody else's.
    """
    installed = os.path.join(PACKAGE, f"_{name}")
    if os.path.isdir(installed):
        return installed
    tree = os.path.dirname(PACKAGE)
    try:
        with open(os.path.join(tree, "pyproject.toml"), "rb") as file:
            is_ours = b'\nname = "vllm-guard"\n' in file.read(_PROJECT_MAX)
    except OSError:
        is_ours = False
    if not is_ours:
        raise GuardError(f"{installed} is missing", "install vllm-guard again")
    return os.path.join(tree, name)


def base_dir(kind: str, env: Mapping[str, str]) -> str:
    """The guard's own folder for `config`, `state` or `cache`; not created.

    A relative `XDG_*` is ignored, as the XDG base directory specification asks.
    """
    given = env.get(f"XDG_{kind.upper()}_HOME", "")
    default = {"config": ".config", "state": ".local/state", "cache": ".cache"}[kind]
    root = given if os.path.isabs(given) else os.path.join(home(env), default)
    return os.path.join(root, "vllm-guard")


def home(env: Mapping[str, str]) -> str:
    """`$HOME`, else the password database's, else `/dev/null` (nothing can be kept there, by nobody)."""
    given = env.get("HOME", "")
    if os.path.isabs(given):
        return given
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/dev/null"


def cache_home(env: Mapping[str, str]) -> str:
    """`$XDG_CACHE_HOME`, else `~/.cache`, as vLLM and huggingface_hub have it: a relative one counts."""
    return env.get("XDG_CACHE_HOME") or os.path.join(home(env), ".cache")


def cwd() -> str:
    """The current folder; where it has been removed, a name under which nothing is found."""
    try:
        return os.getcwd()
    except OSError:
        return "/proc/self/cwd"


def make_private(path: str) -> str:
    """Create `path` (and parents) with mode 0700, whatever the umask, and return it.

    Raises OSError when it exists as anything but a folder of this user's that only they can write.
    """
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_private(parent)
    try:
        os.mkdir(path, PRIVATE_DIR)
        os.chmod(path, PRIVATE_DIR)
    except FileExistsError:
        info = os.lstat(path)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise PermissionError(f"{path} is not a private folder of this user") from None
    return path


def write_private(path: str, content: bytes) -> None:
    """Write the whole file, mode 0600, so that a reader sees the old content or the new, never half."""
    new = f"{path}.{os.getpid()}.new"
    try:
        create_private(new, content)
    except FileExistsError:  # of a process that had our id, and died here
        os.unlink(new)
        create_private(new, content)
    try:
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def new_private(path: str) -> int:
    """A descriptor of a new file, mode 0600; OSError when there is one already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, PRIVATE_FILE)


def create_private(path: str, content: bytes) -> None:
    """Create the file with this content, mode 0600; OSError when there is one already."""
    fd = new_private(path)
    try:
        write_all(fd, content)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """`os.write` until all of it is written."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def read_regular(path: str, limit: int, own: bool = False) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; opened once, no symlink followed.

    Raises GuardError for everything that is not such a file: it never blocks on a fifo or a device,
    and never reads more than `limit`. It must be this user's or root's (`own`: this user's), and nobody else
    may write it; root reads no other user's either, for with what it says that user would be root.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):
            raise GuardError(
                f"{path} is a symbolic link", f"name the file itself: {os.path.realpath(path)}"
            ) from None
        raise GuardError(f"cannot read {path}: {error.strerror}") from None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise GuardError(f"{path} is not a regular file")
        if info.st_size > limit:
            raise GuardError(f"{path} is {info.st_size} bytes long; at most {limit} are read")
        _refuse_foreign(path, info, own)
        content = read_fd(fd, limit + 1)
    except OSError as error:
        raise GuardError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(content) > limit:
        raise GuardError(f"{path} is longer than {limit} bytes")
    return content


def peek(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file, whoever owns it; OSError for anything else, at once."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "not a regular file", path)
        return read_fd(fd, limit)
    finally:
        os.close(fd)


def read_fd(fd: int, limit: int) -> bytes:
    """Up to `limit` bytes from where `fd` stands."""
    chunks = []
    while limit > 0 and (chunk := os.read(fd, min(limit, 1 << 20))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def is_open(info: os.stat_result) -> bool:
    """Can users other than its owner write it?

    A user's private group (its id is the user's: Debian's and Fedora's default) is nobody else.
    """
    by_group = info.st_mode & 0o020 and info.st_gid != info.st_uid
    return bool(by_group or info.st_mode & 0o002)


def _refuse_foreign(path: str, info: os.stat_result, own: bool) -> None:
    """Another user's file could change under us or on purpose: git's rule of CVE-2022-24765, root's too."""
    me = os.geteuid()
    if is_open(info):
        raise GuardError(f"{path} can be written by other users", f"chmod go-w {path}")
    if info.st_uid != me and (own or info.st_uid != 0):
        whose = "you" if own else "you or root"
        raise GuardError(f"{path} belongs to uid {info.st_uid}, not to {whose}", TAKE_IT)
