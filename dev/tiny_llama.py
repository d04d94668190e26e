"""Writes a tiny Llama with random weights and its tokenizer: a model that any vLLM serves in no time.

    python dev/tiny_llama.py FOLDER

It runs in an environment with transformers, touches no network, and writes the same bytes each time.
What the model says makes no sense; how it is loaded, split over two workers and served is real.
"""

from __future__ import annotations

import sys

import torch  # type: ignore[import-not-found]
from tokenizers import Tokenizer, decoders, pre_tokenizers  # type: ignore[import-not-found]
from tokenizers.models import BPE  # type: ignore[import-not-found]
from tokenizers.trainers import BpeTrainer  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A server that hangs is worse than a server that fails.",
    "Every process that was started has ended, and nothing is left behind.",
    "Hello, my name is Ada. What is the capital of France?",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
)
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT = 256  #: tokens
VOCABULARY = 400  #: at most; 256 of them are the single bytes, so that any text can be encoded
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def main(folder: str) -> None:
    """Write model, tokenizer and generation settings into `folder`."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_model(tokenizer).save_pretrained(folder)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the sentences above."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Two layers with random weights, always the same ones."""
    torch.manual_seed(0)
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # two, so that it can be split over two workers
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        **tokens,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**tokens)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python dev/tiny_llama.py FOLDER")
    main(sys.argv[1])
