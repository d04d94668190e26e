"""platform: what vLLM takes this machine for, and which of its plug-ins said so."""


def run(report, ask):
    if report.attempt("import", _import):
        for group in ("builtin", "installed"):
            _plugins(report, group)
        report.attempt("platform", _platform)


def _import():
    import vllm.platforms

    return vllm.platforms.__file__


def _plugins(report, group):
    for name, detect in sorted(_found(group).items()):
        try:
            answer = detect()
        except Exception as error:  # vLLM itself goes on, too
            answer = None
            report.say("plugin " + name, "note", f"{type(error).__name__}: {error}")
        if answer:
            report.say("plugin " + name, "ok", answer)
        else:
            report.say("plugin " + name, "skip", "not this machine")


def _found(group):
    import vllm.platforms

    if group == "builtin":
        return vllm.platforms.builtin_platform_plugins
    from vllm.plugins import load_plugins_by_group

    return load_plugins_by_group("vllm.platform_plugins")


def _platform():
    from vllm.platforms import current_platform

    kind = current_platform.device_type
    if not kind:
        raise RuntimeError(
            "no plug-in recognises this machine: vLLM will fail to infer its device type"
        )
    return f"{kind} ({type(current_platform).__name__})"
