"""Real vLLM in scripts that are not written for spawn: one run of the top level, and right results."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.kit import GUARD
from tests.kit.serving import Machine, vllm_env

pytestmark = pytest.mark.vllm

PATIENT = 600.0  #: seconds that one may take on two busy cores
#: vLLM says it in each process that makes a configuration.
EAGER = r"\(EngineCore pid=\d+\) WARNING .* Enforce eager set"

#: The script, and the lines that it prints itself.
SCRIPTS = {
    "plain": (
        """
        import os

        from vllm import LLM, SamplingParams

        print("TOP", flush=True)
        llm = LLM(os.environ["VGUARD_TEST_MODEL"], max_model_len=128)
        out = llm.generate(["a"], SamplingParams(max_tokens=4, temperature=0))
        print("TOKENS", len(out[0].outputs[0].token_ids), flush=True)
        """,
        ["TOP", "TOKENS 4"],
    ),
    "logits": (
        """
        import os
        from dataclasses import dataclass

        import torch
        from transformers import AutoTokenizer
        from vllm import LLM, SamplingParams
        from vllm.v1.sample.logits_processor import LogitsProcessor

        print("TOP", flush=True)
        MODEL = os.environ["VGUARD_TEST_MODEL"]
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        FORCED = [tokenizer.encode("the")[-1]] * 2


        @dataclass
        class Wanted:
            bonus: float


        wanted = Wanted(1000.0)


        class Force(LogitsProcessor):
            # one token, which only the main process has computed

            def __init__(self, vllm_config, device, is_pin_memory):
                self.token = FORCED[0]

            def is_argmax_invariant(self):
                return False

            def update_state(self, batch_update):
                return None

            def apply(self, logits):
                logits[:, self.token] += wanted.bonus
                return logits


        llm = LLM(MODEL, max_model_len=128, enforce_eager=True, logits_processors=[Force])
        out = llm.generate(["a"], SamplingParams(max_tokens=4, temperature=0))
        print("FORCED", list(out[0].outputs[0].token_ids) == [FORCED[0]] * 4, flush=True)
        """,
        ["TOP", "FORCED True"],
    ),
    "registered": (
        """
        import os

        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # for the function below

        from vllm import LLM, ModelRegistry, SamplingParams
        from vllm.model_executor.models.llama import LlamaForCausalLM

        print("TOP", flush=True)


        class Own(LlamaForCausalLM):
            pass


        class Extension:
            def whoami(self):
                return type(self.model_runner.model).__name__


        ModelRegistry.register_model("OwnForCausalLM", Own)


        def double(worker, x):
            return 2 * x


        llm = LLM(
            os.environ["VGUARD_TEST_MODEL"],
            max_model_len=128,
            enforce_eager=True,
            hf_overrides={"architectures": ["OwnForCausalLM"]},
            worker_extension_cls="__main__.Extension",
        )
        out = llm.generate(["a"], SamplingParams(max_tokens=4, temperature=0))
        print("TOKENS", len(out[0].outputs[0].token_ids), llm.collective_rpc("whoami"), flush=True)
        print("RPC", llm.collective_rpc(double, args=(21,)), flush=True)
        """,
        ["TOP", "TOKENS 4 ['Own']", "RPC [42]"],
    ),
    "asynchronous": (
        """
        import asyncio
        import os

        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM

        print("TOP", flush=True)


        async def main():
            engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(os.environ["VGUARD_TEST_MODEL"], max_model_len=128)
            )
            async for out in engine.generate("a", SamplingParams(max_tokens=4, temperature=0), "1"):
                pass
            print("TOKENS", len(out.outputs[0].token_ids), flush=True)
            engine.shutdown()


        asyncio.run(main())
        """,
        ["TOP", "TOKENS 4"],
    ),
    "two-workers": (
        """
        import os

        from vllm import LLM, SamplingParams

        print("TOP", flush=True)
        llm = LLM(os.environ["VGUARD_TEST_MODEL"], max_model_len=128, tensor_parallel_size=2)
        out = llm.generate(["a"], SamplingParams(max_tokens=4, temperature=0))
        print("TOKENS", len(out[0].outputs[0].token_ids), flush=True)
        """,
        ["TOP", "TOKENS 4"],
    ),
    "guarded": (
        """
        import os

        from vllm import LLM, SamplingParams

        print("TOP", __name__, flush=True)
        if __name__ == "__main__":
            llm = LLM(os.environ["VGUARD_TEST_MODEL"], max_model_len=128)
            out = llm.generate(["a"], SamplingParams(max_tokens=4, temperature=0))
            print("TOKENS", len(out[0].outputs[0].token_ids), flush=True)
        """,
        ["TOP __main__", "TOP __mp_main__", "TOP __mp_main__", "TOKENS 4"],
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.soak] * (n != "plain")) for n in SCRIPTS]
)
def test_a_script_runs_once_and_its_engine_works(name: str, clean_world: Path) -> None:
    script, printed = SCRIPTS[name]
    path = clean_world / "script.py"
    path.write_text(textwrap.dedent(script))
    machine = Machine(clean_world / "tmp")
    env = vllm_env(VLLM_CPU_OMP_THREADS_BIND="nobind")

    ran = subprocess.run(
        [*GUARD, "-p", "eager", "--", "python", str(path)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENT,
    )

    own = [line for line in ran.stdout.splitlines() if re.match("TOP|TOKENS|FORCED|RPC", line)]
    assert (ran.returncode, own) == (0, printed), ran.stdout + ran.stderr
    assert re.search(EAGER, ran.stdout + ran.stderr), ran.stdout + ran.stderr
    assert "vllm-guard: vLLM's defaults in this script: enforce_eager=True" in ran.stderr
    left = machine.left()
    # By which ranks meet: a script keeps its TMPDIR, and torch removes it only if all ranks end in order.
    left["TMPDIR"] = {name for name in left.get("TMPDIR", ()) if not name.startswith("vllm_dist_")}
    assert left == {"TMPDIR": set()}
