"""The file of `--config`, as it lies on the machine."""

from __future__ import annotations

import os
import stat

from vllm_guard import config_file, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.probes import Context

_MOST = 4 << 20  #: bytes


def read(context: Context, path: str) -> tuple[str, ...]:
    """`config_file.options` of the file that is named so.

    Raises ValueError for what vLLM refuses, `config_file.Unread` for what it may take and is not read here.
    """
    return config_file.options(path, _text(context.host.root + context.absolute(path)))


def _text(path: str) -> str | None:
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise config_file.Unread("is no regular file, and may be read only once")
        if info.st_size > _MOST:
            raise config_file.Unread(f"has {info.st_size} bytes, more than {_MOST}")
        return paths.peek(path, _MOST).decode()
    except UnicodeDecodeError:
        raise config_file.Unread(config_file.NO_UTF8) from None
    except (OSError, ValueError):
        return None
