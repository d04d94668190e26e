"""inspect: the command's words read by vLLM's own parser, its model inspected by vLLM's own registry."""


def run(report, ask):
    if report.attempt("import", _import) and report.attempt("flags", lambda: _flags(ask["words"])):
        report.attempt("model", lambda: _model(ask["words"]))


def _import():
    import vllm.entrypoints.cli.serve

    return vllm.entrypoints.cli.serve.__file__


def _args(words):
    # Both have moved between versions; the command `vllm serve` itself knows where they are.
    from vllm.entrypoints.cli.serve import FlexibleArgumentParser, make_arg_parser

    parser = make_arg_parser(FlexibleArgumentParser())
    parser.error = _refuse
    args = parser.parse_args(list(words))
    if getattr(args, "model_tag", None):
        args.model = args.model_tag
    return args


def _refuse(message):
    """In place of argparse's own, which writes to stderr and exits."""
    raise ValueError(message)


def _flags(words):
    _args(words)
    return "understood"


def _model(words):
    from vllm.engine.arg_utils import AsyncEngineArgs

    config = AsyncEngineArgs.from_cli_args(_args(words)).create_model_config()
    _, architecture = config.registry.resolve_model_cls(config.architectures, config)
    return f"{architecture}, {config.dtype}, max_model_len {config.max_model_len}"
