"""The watch over a run: what the user asked of it, and what the preflight knows of the model."""

from __future__ import annotations

import os

from vllm_guard import hub, stall
from vllm_guard.progress import Model
from vllm_guard.watch import Asked, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_guard.prepare import Prepared
    from vllm_guard.probes import Context


def watch(prepared: Prepared, keep: Callable[[bytes], None]) -> Watch:
    """The watch over this run, not begun; `keep` gets the output first."""
    options, context = prepared.options, prepared.context
    serves = prepared.is_server and not context.is_headless
    asked = Asked(
        script=prepared.target is not None and not serves,
        vllm=prepared.is_server,
        speaks=options.listens,
        live=options.progress and not options.quiet,
        on_ready=options.on_ready,
        env=dict(prepared.entries),
        guard_env=prepared.before,
        model=_model(prepared),
        stalls=_stalls(prepared) if options.stall != "off" else None,
        port=prepared.port if serves else None,
    )
    return Watch(asked, keep)


def _stalls(prepared: Prepared) -> stall.Asked:
    options, context = prepared.options, prepared.context
    target = prepared.target
    return stall.Asked(
        after=options.stall_after,
        ends=options.stall == "kill",
        script=not prepared.is_server,
        path=prepared.after.get("PATH", os.defpath),
        interpreter=target.interpreter if target is not None else "",
        dumps=dumps(context),
        redactor=prepared.redactor,
    )


def dumps(context: Context) -> str:
    """Where vLLM's own watchdog (0.33) writes the stacks; empty where the user asked for none."""
    folder = context.flag("--watchdog-config.dump-dir")
    given = context.flag("--watchdog-config")
    if folder is None and given is not None:
        import json

        try:
            folder = json.loads(given)["dump_dir"]
        except (ValueError, KeyError, TypeError):
            return ""
    return context.absolute(folder) if isinstance(folder, str) else ""


def _model(prepared: Prepared) -> Model:
    """Only of a server is it known which one it loads."""
    if not prepared.is_server:
        return Model()
    from vllm_guard.probes import places
    from vllm_guard.probes.server import _place, model_hub

    context = prepared.context
    name = _place.word(context)
    cache = context.flag("--download-dir") or hub.cache_dir(context.env)
    blobs = os.path.join(hub.folder(context.absolute(cache), name), "blobs") if name else ""
    return Model(blobs, sum(places.weights(context).values()) or None, model_hub.missing(context))
