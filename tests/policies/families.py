"""Tokenizers and tiny models of the families people use, made here: their special tokens, templates and habits.

Each imitates what decides how a family is to be talked to: kind of tokenizer, special tokens (and whether they are
marked so), whether the tokenizer adds a beginning of text by itself, chat template, `eos_token_id` of the generation
configuration. Templates are minimal equivalents of the published formats. Weights are random.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

LINES = [
    "What is 12 + 30? Work through this step by step.",
    "The answer is \\boxed{42}.",
    "def f(x):\n    return x + 1",
    "Is every fact right? Give your reasons, then the verdict: [[Y]] or [[N]].",
    "Water boils at 100 degrees.",
]

QWEN3 = """{% if messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}{% for message in messages %}{% if message.role == 'user' %}<|im_start|>user
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}{% set content = message.content %}{% set thought = '' %}\
{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}\
{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}<|im_start|>assistant
{% if loop.last %}<think>
{{ thought }}
</think>

{% endif %}{{ content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
QWEN3_THINKING = QWEN3.replace(
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}", "<think>\n"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<|start_header_id|>{{ m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content + eos_token }}{% endif %}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """One way of being talked to."""

    config: Callable[..., PretrainedConfig]
    sentencepiece: bool = False
    specials: tuple[str, ...] = ()
    added: tuple[str, ...] = ()  # tokens of the vocabulary that are not marked as special
    adds_bos: bool = False
    names: dict[str, str] = field(default_factory=dict)
    template: str | None = None
    eos: tuple[str, ...] = ()  # of the generation configuration
    stops: tuple[str, ...] = ()  # what is expected; the end of a turn last
    takes_system: bool = True


QWEN_NAMES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
FAMILIES = {
    "qwen3": Family(
        Qwen3Config,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        added=("<think>", "</think>"),
        names=QWEN_NAMES,
        template=QWEN3,
        eos=("<|im_end|>", "<|endoftext|>"),
        stops=("<|endoftext|>", "<|im_end|>"),
    ),
    "qwen3-thinking": Family(
        Qwen3Config,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
        names=QWEN_NAMES,
        template=QWEN3_THINKING,
        eos=("<|im_end|>", "<|endoftext|>"),
        stops=("<|endoftext|>", "<|im_end|>"),
    ),
    "llama3": Family(
        LlamaConfig,
        specials=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
        ),
        adds_bos=True,
        names={"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        template=LLAMA3,
        eos=("<|end_of_text|>", "<|eom_id|>"),
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "mistral": Family(
        MistralConfig,
        sentencepiece=True,
        specials=("<unk>", "<s>", "</s>"),
        adds_bos=True,
        names={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        template=MISTRAL,
        eos=("</s>",),
        stops=("</s>",),
        takes_system=False,
    ),
    "gemma2": Family(
        Gemma2Config,
        sentencepiece=True,
        specials=("<pad>", "<eos>", "<bos>", "<unk>"),
        added=("<start_of_turn>", "<end_of_turn>"),
        adds_bos=True,
        names={"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        template=GEMMA,
        eos=("<eos>",),
        stops=("<eos>", "<end_of_turn>"),
        takes_system=False,
    ),
    "gemma3": Family(
        Gemma3TextConfig,
        sentencepiece=True,
        specials=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        adds_bos=True,
        names={"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        template=GEMMA,
        eos=("<eos>", "<end_of_turn>"),
        stops=("<eos>", "<end_of_turn>"),
        takes_system=False,
    ),
    "plain": Family(
        LlamaConfig,
        specials=("<|begin_of_text|>", "<|end_of_text|>"),
        adds_bos=True,
        names={"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        stops=("<|end_of_text|>",),
    ),
}


def make_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The family's tokenizer, trained on a few lines."""
    backend = Tokenizer(models.BPE(byte_fallback=family.sentencepiece, unk_token=family.names.get("unk_token")))
    specials = list(family.specials)
    if family.sentencepiece:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        extra = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=specials + extra, show_progress=False)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    backend.train_from_iterator(LINES, trainer)
    if family.sentencepiece:  # bytes are ordinary tokens; only what the family calls special is
        backend = _without_special_bytes(backend)
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    if family.adds_bos:
        bos = family.names["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    named = set(family.names.values())
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=family.template,
        **family.names,
        additional_special_tokens=[token for token in specials if token not in named],
    )


def _without_special_bytes(backend: Tokenizer) -> Tokenizer:
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def save_family(name: str, folder: Path, *, head_dim: int = 8) -> Path:
    """A complete tiny checkpoint of a family; vLLM's CPU build wants heads of 32 or more."""
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    torch.manual_seed(0)
    config = family.config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        sliding_window=64,
    )
    model = AutoModelForCausalLM.from_config(config)
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.eos]
    model.generation_config = GenerationConfig(eos_token_id=stops) if stops else GenerationConfig()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
