"""Is a secret among the words of the command? The kernel shows these to every user of the machine."""

from __future__ import annotations

from vllm_guard import flag_words
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "secrets on the command line"
#: The option, and the variable that vLLM or huggingface_hub reads instead.
_INSTEAD = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}


def check(context: Context) -> Iterator[Finding]:
    """A file of `--config` is not looked at: nobody sees its words in `ps`."""
    for option, variable in _INSTEAD.items():
        if flag_words.given(context.given_words, (option,)):
            fact = "every user of this machine can read it (ps, /proc/PID/cmdline)"
            fix = f"set {variable} in the environment instead"
            yield Finding("api-key-on-command-line", "warn", option, fact, fix=fix)
