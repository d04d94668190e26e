"""What happens once happens once, and children see the values that the main process has."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, on_every_python, run, write

ASK = """
        from multiprocessing import get_context
        def ask(f):
            with get_context("spawn").Pool(1) as pool:
                return pool.apply(f)
"""
WAY_OUT = (
    "Mark that line with '# vllm-guard: child' to run it in every child too, or move it into the function"
    " that uses it.\n"
)

CASES = (
    Case(
        "printed-once",
        ASK
        + """
        print("top", flush=True)
        def f():
            return "done"
        print(ask(f))
        """,
        "top\ndone\n",
    ),
    Case(
        "file-written-once",
        ASK
        + """
        with open("log", "a") as file:
            file.write("x")
        def f():
            return open("log").read()
        print(ask(f))
        """,
        "x\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "argparse",
        ASK
        + """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--size", type=int)
        args = parser.parse_args()
        def f():
            return args.size + 1
        print(ask(f))
        """,
        "5\n",
        words=("s.py", "--size", "4"),
    ),
    Case(
        "computed-values",
        ASK
        + """
        import json, time, uuid
        RUN, START = uuid.uuid4(), time.time()
        config = json.loads(input())
        def f():
            return RUN, START, config
        print(ask(f) == (RUN, START, config), config)
        """,
        "True {'a': [1]}\n",
        stdin='{"a": [1]}\n',
    ),
    *(
        Case(
            f"one-object-in-two-names-{size}",
            ASK
            + f"""
        import argparse
        args = argparse.Namespace(sizes=[{size}], buffer=bytearray(b"a"), big=bytes({size}))
        loaded = dict(zip("ab", [args.sizes, [args]]))
        sizes, other, alone = loaded["a"], loaded["b"], list("c")
        buffer, same = args.buffer, [args.sizes, ()]
        def f():
            sizes.append(1)
            return (args.sizes is sizes is same[0], other[0] is args, buffer is args.buffer,
                    len(args.sizes), alone, len(args.big))
        print(ask(f))
        """,
            f"(True, True, True, 2, ['c'], {size})\n",
        )
        for size in (1, 200_000)
    ),
    Case(
        "one-object-in-two-names-of-which-one-cannot-be-sent",
        ASK
        + """
        shared = [int(input())]
        deep, big, other = shared, [shared, bytes(int(input()))], [shared, bytes(int(input()))]
        for _ in range(100_000):
            deep = [deep]
        def f():
            try:
                return deep
            except NameError as error:
                return len(big[1]) + len(other[1]), shared, "RecursionError" in str(error)
        print(ask(f))
        """,
        "(18000000, [1], True)\n",
        stdin="1\n9000000\n9000000\n",
    ),
    Case(
        "rebound-name",
        ASK
        + """
        size = 1
        def f():
            return size
        size = int(input())
        print(ask(f))
        """,
        "8\n",
        stdin="8\n",
    ),
    Case(
        "name-of-a-builtin",
        ASK
        + """
        id, max = int(input()), 3
        def f():
            return id, max, min(1, 2)
        max = open("s.py")
        def g():
            return max
        try:
            print(ask(g))
        except NameError as error:
            print(str(error).partition(":")[0])
        max = 4
        print(ask(f))
        """,
        "name 'max' is not defined in this child process\n(7, 4, 1)\n",
        stdin="7\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "changed-container",
        ASK
        + """
        words, table = [], {}
        words.append("constant")
        def f():
            return words, table
        for word in input().split():
            words.append(word)
            table[word] = len(word)
        print(ask(f))
        """,
        "(['constant', 'ab', 'c'], {'ab': 2, 'c': 1})\n",
        stdin="ab c\n",
    ),
    Case(
        "name-set-by-globals",
        ASK
        + """
        for name in ("alpha", "beta"):
            globals()[name] = name.upper()
        exec("gamma = 3")
        def f():
            return alpha, beta, gamma
        print(ask(f))
        """,
        "('ALPHA', 'BETA', 3)\n",
    ),
    Case(
        "value-too-large",
        ASK
        + """
        text = input() * (17 << 20)
        def f():
            return len(text)
        try:
            ask(f)
        except NameError as error:
            print(error)
        """,
        "name 'text' is not defined in this child process: vllm-guard ran line 6 of s.py in the main process"
        " only (calls input()). Its value was not sent: it is larger than 16 MB. " + WAY_OUT,
        stdin="x\n",
    ),
    Case(
        "large-and-marked-values",
        ASK
        + """
        text = input() * (1 << 20)
        size = int(input())
        twice = (lambda x: 2 * x)(size)  # vllm-guard: child
        def f():
            return len(text), twice
        print(ask(f))
        """,
        "(1048576, 6)\n",
        stdin="x\n3\n",
    ),
    Case(
        "instance-as-global",
        ASK
        + """
        from dataclasses import dataclass
        @dataclass
        class Config:
            size: int
            names: list
        class Plain:
            def __init__(self, config):
                self.config = config
        config = Config(2, ["a"])
        plain = Plain(config)
        def f():
            return plain.config, type(config).__module__
        print(ask(f))
        """,
        "(Config(size=2, names=['a']), '__mp_main__')\n",
    ),
    Case(
        "dictionary-with-attributes",
        ASK
        + """
        class Table(dict):
            __getattr__ = dict.__getitem__
            def __reduce_ex__(self, protocol):
                return super().__reduce_ex__(protocol)
        class Plain(dict):
            __getattr__ = dict.get
        custom, plain = Table(size=int(input())), Plain(size=1)
        def f():
            return plain.size, type(plain).__name__
        def g():
            return custom
        print(ask(f))
        try:
            ask(g)
        except NameError as error:
            print(str(error).partition("Its ")[2].partition(".")[0])
        """,
        "(1, 'Plain')\nvalue was not sent: it is a Table, not plain data\n",
        stdin="2\n",
        since=(3, 11),
    ),
    Case(
        "environment-read-before-it-changed",
        ASK
        + """
        import os
        SIZE = os.environ.get("SIZE", "small")
        HERE = os.path.exists("made")
        os.environ["SIZE"] = "large"
        open("made", "w").close()
        def f():
            return SIZE, HERE, os.environ["SIZE"]
        print(ask(f))
        """,
        "('small', False, 'large')\n",
    ),
    Case(
        "state-of-functions-is-the-initial-one",
        ASK
        + """
        count = 0
        seen = []
        def note():
            global count
            count += 1
            seen.append(count)
        note()
        def f():
            return count, seen
        print(count, seen, ask(f))
        """,
        "1 [1] (0, [])\n",
    ),
    Case(
        "name-that-only-a-function-sets",
        ASK
        + """
        def setup():
            global handle, size
            handle, size = open("s.py"), int(input())
        setup()
        def f():
            return size
        def g():
            return handle
        print(ask(f))
        try:
            ask(g)
        except NameError as error:
            print(error)
        """,
        "4\nname 'handle' is not defined in this child process: s.py sets it in the main process only. Its"
        " value was not sent: it is an _io.TextIOWrapper, not plain data. Pass it to the function as an"
        " argument.\n",
        stdin="4\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "monkeypatch",
        ASK
        + """
        import json
        def patched(value):
            return "patched"
        json.dumps = patched
        def f():
            return json.dumps(1)
        print(ask(f))
        """,
        "patched\n",
    ),
    Case(
        "registration",
        ASK
        + """
        import registry
        class Model:
            pass
        registry.Models.register_model("mine", Model)
        def f():
            return sorted(registry.Models.known)
        print(ask(f))
        """,
        "['mine']\n",
        files={
            "registry.py": """
        class Models:
            known = {}
            @classmethod
            def register_model(cls, name, model):
                cls.known[name] = model
        """
        },
    ),
    Case(
        "inherited-environment-folder-and-path",
        ASK
        + """
        import os, sys
        os.environ["COLOR"] = "red"
        os.mkdir("sub")
        os.chdir("sub")
        sys.path.append("/somewhere")
        def f():
            return os.environ["COLOR"], os.path.basename(os.getcwd()), sys.path.count("/somewhere")
        print(ask(f))
        """,
        "('red', 'sub', 1)\n",
    ),
    Case(
        "logging",
        ASK
        + """
        import logging
        logging.basicConfig(level=logging.INFO, format="%(name)s %(processName)s %(message)s")
        logger = logging.getLogger("app")
        def f():
            logger.info("in the child")
        logger.info("in the parent")
        ask(f)
        """,
        "",
        "app MainProcess in the parent\napp SpawnPoolWorker-1 in the child\n",
    ),
    Case(
        "atexit",
        """
        import atexit
        from multiprocessing import get_context
        def bye():
            print("bye")
        atexit.register(bye)
        def f():
            print("child")
        process = get_context("spawn").Process(target=f)
        process.start()
        process.join()
        """,
        "child\nbye\n",
    ),
)

#: What another process must not make anew -> the way out.
WAYS = {
    "context.Queue()": "Pass it as an argument: Process(args=(...,)), Pool(initializer=",
    "context.Lock()": "Pass it as an argument: ",
    "context.Value('i', 0)": "Pass it as an argument: ",
    "context.Pipe()[0]": "Pass it as an argument: ",
    "socket.socket()": "Pass it as an argument: ",
    "context.Pool(1)": "Make one in the function that uses it.",
    "ProcessPoolExecutor(1, context)": "Make one in the function that uses it.",
    "context.Manager()": "Pass the objects that it manages as arguments.",
    "open('log', 'w')": "Open it in the function that uses it.",
    "sqlite3.connect(':memory:')": "Mark that line with '# vllm-guard: child'",
}


@on_every_python()
def test_the_way_out_is_one_for_the_value(python: str, tmp_path: Path) -> None:
    names = {f"x{number}": value for number, value in enumerate(WAYS)}
    case = Case(
        "ways",
        "import multiprocessing, socket, sqlite3\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "context = multiprocessing.get_context('spawn')\n"
        + "".join(f"{name} = {value}\n" for name, value in names.items())
        + "with open('s.py') as file:\n    def inner():\n        pass\n"
        f"names = {[*names, 'inner']}\n"
        f"def f(name):\n    try:\n        eval(name)\n"
        "    except NameError as error:\n        return str(error)\n"
        f"def reads():\n    return {', '.join(names)}, inner\n"
        "with context.Pool(1) as pool:\n    print(*pool.map(f, names), sep='\\n')\n"
        "x7.shutdown()\n",
        flags=("-W", "ignore"),
    )
    write(case, tmp_path)

    said = run(case, tmp_path, python).out.splitlines()

    ways = [*WAYS.values(), "Move its definition out of the block that it is in."]
    assert [
        way for way, line in zip(ways, said, strict=True) if f"not plain data. {way}" in line
    ] == ways


@matrix(CASES)
def test_a_child_sees_the_values_of_the_main_process_and_repeats_none_of_its_effects(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)
