"""Variables that do not go together with each other, with the command or with the host. Pure."""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_LOCAL = ("localhost", "127.0.0.1", "*", "127.0.0.0/8")
_ALLOCATORS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_P2P_OFF = {"NCCL_P2P_DISABLE": ("1",), "NCCL_P2P_LEVEL": ("LOC", "0")}
_CONNECTORS = ("--kv-transfer-config", "--kv-connector")
_CUMEM = ("--enable-sleep-mode", "--enable-cumem-allocator")  #: with these, vLLM's own allocator


def find(env: Mapping[str, str], words: Sequence[str], gpus: int | None) -> Iterator[Finding]:
    """Every contradiction. `words` are the command's; `gpus` is how many this host has, None for unknown."""
    yield from _visible_devices(env, gpus)
    yield from _custom_all_reduce(env, words)
    yield from _proxy(env)
    yield from _allocator(env, words)


def _visible_devices(env: Mapping[str, str], gpus: int | None) -> Iterator[Finding]:
    for name in GPUS:
        value = env.get(name)
        if value is None:
            continue
        items = [item.strip() for item in value.split(",")]
        subject = f"{name}={value}"
        seen: set[str] = set()
        twice = sorted({item for item in items if item and (item in seen or seen.add(item))})  # type: ignore[func-returns-value]
        beyond = [i for i in items if gpus is not None and i.isdigit() and int(i) >= gpus]
        if twice:
            text = f"{', '.join(twice)} is there twice: CUDA then shows no device from there on"
            yield Finding("visible-devices", "warn", subject, text, fix="name each device once")
        elif beyond and gpus:
            text = (
                f"this host has {gpus}, numbered from 0: CUDA ignores {beyond[0]} and all behind it"
            )
            yield Finding(
                "visible-devices", "warn", subject, text, fix=f"unset {name}, or 0 to {gpus - 1}"
            )
        elif gpus and value.strip() in ("", "-1", "none", "None", "NoDevFiles"):
            text = f"hides the {gpus} GPUs of this host"
            yield Finding("visible-devices", "warn", subject, text, fix=f"unset {name}")


def _custom_all_reduce(env: Mapping[str, str], words: Sequence[str]) -> Iterator[Finding]:
    off = [name for name, values in _P2P_OFF.items() if env.get(name, "").upper() in values]
    several = _number_after(words, "--tensor-parallel-size", "-tp") > 1
    if off and several and not _has(words, "--disable-custom-all-reduce"):
        yield Finding(
            "p2p-half-off",
            "warn",
            f"{off[0]}={env[off[0]]}",
            "turns P2P off in NCCL only: vLLM's custom all-reduce still uses it",
            fix="add --disable-custom-all-reduce, or use -p p2p-off",
        )


def _proxy(env: Mapping[str, str]) -> Iterator[Finding]:
    proxies = [name for name in _PROXIES if env.get(name)]
    exempt = f"{env.get('no_proxy', '')},{env.get('NO_PROXY', '')}".replace(" ", "").split(",")
    if proxies and not any(item in _LOCAL for item in exempt):
        yield Finding(
            "proxy-local",
            "note",
            proxies[0],
            "requests to this host's own server pass through the proxy, too",
            fix="no_proxy=localhost,127.0.0.1",
        )


def _allocator(env: Mapping[str, str], words: Sequence[str]) -> Iterator[Finding]:
    """Newer versions of vLLM refuse the combination (`VllmConfig`, 0.32); in others, transfers fail."""
    for name in _ALLOCATORS:
        settings = env.get(name, "").replace(" ", "").split(",")
        given = [word for word in settings if word.startswith("expandable_segments:")]
        both = given[-1:] == ["expandable_segments:True"] and _has(words, *_CONNECTORS)
        if both and not _has(words, *_CUMEM):
            yield Finding(
                "allocator-conflict",
                "warn",
                f"{name}={env[name]}",
                "expandable segments move the KV cache that a KV connector has registered",
                fix=f"unset {name}, or add --enable-cumem-allocator",
            )


def _has(words: Sequence[str], *names: str) -> bool:
    given = (word.partition("=")[0].replace("_", "-") for word in words)
    return any(name in names for name in given)


def _number_after(words: Sequence[str], *names: str) -> int:
    """The number of an option, of several the last; 1 where it is not given."""
    number = 1
    for word, following in zip(words, (*words[1:], ""), strict=False):
        name, equals, value = word.partition("=")
        text = value if equals else following
        if name.replace("_", "-") in names and text.isdigit():
            number = int(text)
    return number
