"""A checkpoint of ours written as GGUF, as the files that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(checkpoint: Path, target: Path, *, quantised: bool = False) -> Path:
    """A Qwen3 checkpoint with tied heads as one GGUF file, in single precision or, where it fits, in 8-bit blocks."""
    import gguf
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(checkpoint), trust_remote_code=False)
    config = model.config
    writer = gguf.GGUFWriter(str(target), "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer, checkpoint)
    for name, tensor in model.named_parameters():
        values = tensor.detach().numpy()
        if quantised and values.ndim == 2 and values.shape[-1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest.removesuffix('.weight')]}.weight"


def _add_tokenizer(writer: Any, checkpoint: Path) -> None:
    content = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text("utf-8"))
    vocabulary = dict(content["model"]["vocab"])
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = sorted({**vocabulary, **added}.items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([3 if token in added else 1 for token, _ in tokens])
    merges = content["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(added[settings["eos_token"]])
    writer.add_pad_token_id(added[settings["pad_token"]])
    writer.add_chat_template((checkpoint / "chat_template.jinja").read_text("utf-8"))
