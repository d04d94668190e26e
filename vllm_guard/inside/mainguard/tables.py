"""Names that the analysis knows: which calls a child may make by itself, which effects it has already.

Full dotted names as imports resolve them; `a.*` stands for everything directly in `a`.
"""


def words(text):
    """A set of words."""
    return frozenset(text.split())


class Table:
    """Dotted names, and packages whose every name counts."""

    def __init__(self, text):
        names = words(text)
        self._names = {name for name in names if not name.endswith(".*")}
        self._packages = {name[:-2] for name in names if name.endswith(".*")}

    def __contains__(self, name):
        return name in self._names or name.rpartition(".")[0] in self._packages


#: Builtins that give the same for the same arguments in every process.
BUILTINS = words(
    """
    abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate
    filter float format frozenset getattr hasattr hex int isinstance issubclass len list map max min
    object oct ord pow property range repr reversed round set slice sorted staticmethod str sum tuple
    type zip
    """
)
#: Of such calls, the ones that call functions that they are given: positions and names of these arguments.
CALLERS = {
    "filter": ((0,), ()),
    "json.dumps": ((), ("cls", "default")),
    "json.loads": (
        (),
        ("cls", "object_hook", "object_pairs_hook", "parse_constant", "parse_float", "parse_int"),
    ),
    "map": ((0,), ()),
    "max": ((), ("key",)),
    "min": ((), ("key",)),
    "re.sub": ((1,), ("repl",)),
    "sorted": ((), ("key",)),
}

#: Functions and classes of which the same holds.
PURE = Table(
    """
    base64.b64decode base64.b64encode collections.ChainMap collections.Counter collections.defaultdict
    collections.deque collections.namedtuple collections.OrderedDict contextvars.ContextVar copy.copy
    copy.deepcopy dataclasses.field dataclasses.make_dataclass datetime.date datetime.datetime
    datetime.time datetime.timedelta datetime.timezone decimal.Decimal enum.* fractions.Fraction
    functools.cache functools.lru_cache functools.partial functools.partialmethod
    importlib.import_module inspect.cleandoc itertools.batched itertools.chain
    itertools.chain.from_iterable itertools.combinations itertools.count itertools.cycle
    itertools.islice itertools.pairwise itertools.permutations itertools.product itertools.repeat
    itertools.zip_longest json.dumps json.loads logging.Formatter logging.getLogger math.*
    multiprocess.get_context multiprocessing.get_context numpy.arange numpy.array numpy.dtype
    numpy.linspace numpy.ones numpy.zeros operator.attrgetter operator.itemgetter operator.methodcaller
    os.fspath os.path.* packaging.version.parse packaging.version.Version pathlib.* re.compile re.escape
    re.match re.search re.sub string.Template struct.calcsize struct.Struct textwrap.*
    threading.Condition threading.Event threading.local threading.Lock threading.RLock
    threading.Semaphore torch.device torch.dtype torch.multiprocessing.get_context torch.Size
    types.MappingProxyType types.SimpleNamespace typing.* typing_extensions.* uuid.UUID
    vllm.sampling_params.* vllm.SamplingParams weakref.WeakKeyDictionary weakref.WeakSet
    weakref.WeakValueDictionary
    """
)

#: What may differ between processes, so that the value of the main process is sent: variables, ...
ENVIRONMENT = words("os.environ os.environb sys.argv sys.flags sys.orig_argv sys.path")
#: ... and functions.
ENVIRONMENT_CALLS = Table(
    """
    getpass.getuser importlib.util.find_spec os.cpu_count os.environ.copy os.environ.get
    os.environ.items os.environ.keys os.environ.values os.getcwd os.getenv os.path.abspath
    os.path.exists os.path.expanduser os.path.expandvars os.path.getatime os.path.getctime
    os.path.getmtime os.path.getsize os.path.isdir os.path.isfile os.path.islink os.path.ismount
    os.path.lexists os.path.realpath os.path.relpath os.path.samefile pathlib.Path.cwd
    pathlib.Path.home platform.machine platform.node platform.system shutil.which
    socket.gethostname tempfile.gettempdir
    """
)
ENVIRONMENT_METHODS = words("absolute exists expanduser is_dir is_file resolve")

#: Texts among what is imported.
TEXTS = Table(
    "os.linesep os.name os.sep string.* sys.byteorder sys.executable sys.platform sys.version"
)

#: Methods of text, paths and containers that change nothing.
METHODS = words(
    """
    as_posix bit_length capitalize casefold copy count decode difference encode endswith find format
    format_map fromkeys get groups hex index intersection is_absolute isalnum isalpha isdigit islower
    issubset issuperset isupper items join joinpath keys ljust lower lstrip partition relative_to
    removeprefix removesuffix replace rfind rjust rpartition rsplit rstrip split splitlines startswith
    strip swapcase title translate union upper values with_name with_stem with_suffix zfill
    """
)

#: Methods that change their object.
MUTATORS = words(
    """
    add append appendleft clear difference_update discard extend extendleft insert
    intersection_update move_to_end pop popitem popleft remove reverse rotate setdefault sort
    subtract symmetric_difference_update update
    """
)

#: Metaclasses whose operations on classes run no code of the script.
METACLASSES = words("abc.ABCMeta enum.EnumMeta enum.EnumType type")

#: Builtins that can set any name of the script.
NAMESPACES = words("eval exec globals locals")

#: Calls whose only effect is on the process that makes them: each child repeats them.
REPLAYED = Table(
    """
    copyreg.pickle decimal.setcontext faulthandler.enable gc.disable gc.enable gc.set_threshold
    locale.setlocale logging.basicConfig logging.captureWarnings logging.disable mimetypes.add_type
    nest_asyncio.apply numpy.random.seed numpy.set_printoptions numpy.seterr pandas.set_option
    random.seed socket.setdefaulttimeout sys.set_int_max_str_digits sys.setrecursionlimit
    sys.setswitchinterval torch.cuda.manual_seed torch.cuda.manual_seed_all torch.manual_seed
    torch.multiprocessing.set_sharing_strategy torch.set_autocast_enabled torch.set_default_device
    torch.set_default_dtype torch.set_default_tensor_type torch.set_deterministic_debug_mode
    torch.set_float32_matmul_precision torch.set_flush_denormal torch.set_grad_enabled
    torch.set_num_interop_threads torch.set_num_threads torch.set_printoptions
    torch.set_warn_always torch.use_deterministic_algorithms transformers.set_seed
    transformers.logging.* transformers.utils.logging.* uvloop.install warnings.filterwarnings
    warnings.resetwarnings warnings.simplefilter
    """
)
REPLAYED_METHODS = words(
    """
    register register_model register_module register_parser register_plugin setLevel
    """
)
#: `logging.basicConfig` with one of these opens a file, or adds to one.
NOT_REPLAYED_WITH = frozenset(("filename", "handlers", "stream"))
#: A child that registers these would do it once more at its end, or in the main process's stead.
NEVER_REPLAYED = frozenset(("atexit.register", "signal.register", "faulthandler.register"))

#: A child has their effect already: it inherits it, or multiprocessing sends it.
INHERITED = Table(
    """
    dotenv.load_dotenv multiprocess.set_start_method multiprocessing.set_start_method os.chdir
    os.environ.clear os.environ.pop os.environ.setdefault os.environ.update os.nice os.putenv
    os.umask os.unsetenv resource.setrlimit site.addsitedir sys.argv.append sys.argv.extend
    sys.argv.insert sys.argv.pop sys.argv.remove sys.path.append sys.path.extend sys.path.insert
    sys.path.pop sys.path.remove torch.multiprocessing.set_start_method
    """
)
INHERITED_VARIABLES = words("os.environ os.environb sys.argv sys.path")
#: Those that may be replaced as a whole: what `os.environ = ` sets is no variable of the process.
SENT_BY_PYTHON = words("sys.argv sys.path")

#: `with` statements whose body is looked into.
CONTEXTS = Table("contextlib.suppress warnings.catch_warnings")
