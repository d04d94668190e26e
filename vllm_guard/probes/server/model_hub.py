"""Will the hub give the model? Asked only where vLLM will have to download it, by metadata, for a second."""

from __future__ import annotations

from vllm_guard import hub, hub_api, model_files
from vllm_guard.model import Finding
from vllm_guard.probes import places
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.hub_api import Answer
    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "the model at the hub"

_SECONDS = 1.0  #: for all of it; the hub answers in about a tenth of that
_DOWNLOAD = 10 << 30  #: bytes, where the hub does not tell; few models that are served are smaller
#: vLLM's default loader takes the first of these that there is, and not what lies in `original/`.
_WEIGHTS = (".safetensors", ".bin", ".pt")
_ORIGINAL = "original/"
_MISTRAL = "consolidated"  #: the same weights again, for vLLM's other format
_SHORT = 12  #: characters that tell a commit


def check(context: Context) -> Iterator[Finding]:
    name = _place.word(context)
    if not name or not _downloads(context, name):
        return
    if context.env.get("HF_OIDC_RESOURCE"):
        fact = "not asked: HF_OIDC_RESOURCE is set, and only huggingface_hub can make that token"
        yield Finding("hub-answers", "skip", name, fact)
        return
    answer = hub_api.ask(_question(context, name), context.env, _SECONDS)
    _, origin = hub.token(context.host, context.env)
    yield _judged(context, answer, hub.repository(name), origin)
    if not answer.refusal:
        yield _room(context, answer)


def missing(context: Context) -> int | None:
    """Bytes of the weights that are still to be downloaded, as far as the hub was asked and told them."""
    answer = hub_api.known(_question(context, _place.word(context)))
    return _size(answer.sizes or {}, _present(context))


def _question(context: Context, name: str) -> hub_api.Question:
    token, _ = hub.token(context.host, context.env)
    endpoint, revision = hub.endpoint(context.env), _place.revision(context)
    return hub_api.Question(endpoint, hub.repository(name), revision, token)


def _downloads(context: Context, name: str) -> bool:
    """Will vLLM have to fetch something of it from the hub?"""
    elsewhere = name.startswith(("/", ".", "~")) or context.host.exists(context.absolute(name))
    repository = hub.repository(name)
    if elsewhere or hub.offline(context.env) or repository.count("/") > 1:
        return False
    place = _place.find(context)
    if place is None:
        return name == repository or not places.model_folder(context)
    weights = model_files.weights(place.folder)
    whole = weights.files and not weights.missing and not weights.damaged
    return not whole and context.flag("--load-format") != "dummy"


def _judged(context: Context, answer: Answer, repository: str, origin: str) -> Finding:
    where = _shown(hub.endpoint(context.env))
    page = f"{where}/{repository}"
    if answer.refusal == hub_api.NO_REVISION:
        fact = f"{where} has no revision {_place.revision(context)} of it"
        return _refusal("hub-revision", context, repository, fact, f"--revision main; see {page}")
    if answer.refusal == hub_api.NO_REPOSITORY:
        seen = f": the token in {origin} is not for it" if origin else ", and no token is set"
        fact = f"{where} has no such model, or it is private{seen}"
        fix = f"check the name; {_login(origin)}"
        return _refusal("hub-model", context, repository, fact, fix)
    if answer.refusal == hub_api.GATED:
        fact = f"{where} gives it only to those who were granted access: "
        fact += f"the token in {origin} was not" if origin else "no token is set"
        return _refusal("hub-gated", context, repository, fact, f"ask at {page}; {_login(origin)}")
    if answer.refusal:
        fact = f"{where} does not accept the token in {origin}"
        return _refusal("hub-token", context, repository, fact, _login(origin))
    if answer.problem:
        fact = f"not known whether it will give the model: {answer.problem}"
        fix = (
            "HTTPS_PROXY, or HF_ENDPOINT=MIRROR; HF_HUB_OFFLINE=1 for a model that is in the cache"
        )
        return Finding("hub-answers", "unknown", where, fact, fix=fix)
    return Finding("hub-answers", "ok", where, f"{repository}, commit {answer.commit[:_SHORT]}")


def _shown(endpoint: str) -> str:
    """The address without the name and password that may be in it."""
    who, at, address = endpoint.rpartition("@")
    scheme, mark, _ = who.partition("://")
    return f"{scheme}{mark}{address}" if at and mark else address


def _refusal(id_: str, context: Context, repository: str, fact: str, fix: str) -> Finding:
    return Finding(id_, _certain(context, repository), repository, fact, fix=fix)


def _certain(context: Context, repository: str) -> Status:
    """Is vLLM sure to fail? What is in the cache may do; huggingface_hub may renew a token in a file."""
    _, origin = hub.token(context.host, context.env)
    cached = hub.snapshots(context.host, hub.cache_dir(context.env), repository)
    maybe = cached or origin.startswith("/") or context.has("--hf-token")
    return "warn" if maybe else _place.certain(context)


def _login(origin: str) -> str:
    return f"another token in {origin}" if origin.isupper() else "hf auth login, or HF_TOKEN=TOKEN"


def _room(context: Context, answer: Answer) -> Finding:
    given = context.flag("--download-dir")
    folder = context.absolute(given) if given else hub.cache_dir(context.env)
    variable = "--download-dir FOLDER" if given else "HF_HOME=FOLDER"
    size = _size(answer.sizes or {}, _present(context))
    if size is None:
        return places.room(context, folder, _DOWNLOAD, variable, "the model")
    return places.room(context, folder, size, variable, f"{_place.gib(size)} of the model")


def _present(context: Context) -> set[str]:
    folder = places.model_folder(context)
    return set(context.host.names(folder)) if folder else set()


def _size(sizes: Mapping[str, int], present: set[str]) -> int | None:
    """Bytes of the weights that are still to be downloaded; None where there are none that are known."""
    wanted = [name for name in sizes if not name.startswith(_ORIGINAL)]
    for ending in _WEIGHTS:
        found = [name for name in wanted if name.endswith(ending)]
        if not found:
            continue
        missing = [name for name in found if name not in present]
        mistral = [name for name in missing if name.startswith(_MISTRAL)]
        both = (mistral, [name for name in missing if name not in mistral])
        return max(sum(sizes[name] for name in names) for names in both)
    return None
