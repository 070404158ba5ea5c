"""A stored version as an MLflow model: questions in, answers out.

This file is copied into the folder of the weights and run by MLflow there ("models from code"), so it must work alone.
Besides the standard library it imports only what a serving machine has anyway (mlflow, torch, transformers, and peft
for an adapter), and not svd-loop, which need not be installed where a version is loaded. Templates, stop tokens and
sampling are in `serving/settings.json` in the same folder.

A row of the input is a conversation (`messages`), passed to the model unchanged, or a `question`, put into the prompt
that the solver was trained with for its `domain` (default: math). Equal rows with equal seeds get equal answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

VERSION = "version"
"""Name of the artifact that is the version's folder."""
SETTINGS = "serving/settings.json"
_BATCH = 16


class ChatModel(PythonModel):
    """Verified weights of one version with its tokenizer and solver template.

    `unwrap_python_model()` of the loaded model gives this object: its `model` and `tokenizer` are plain objects of
    transformers, an adapter already merged in single precision.
    """

    model: Any
    tokenizer: Any

    def load_context(self, context: Any) -> None:
        """Check every file against its digest and load the weights.

        Raises:
            MlflowException: a file is missing or is not the one that was registered.
        """
        folder = Path(context.artifacts[VERSION])
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        base = (
            None if manifest["base_path"] is None else folder / manifest["base_path"]
        )  # an absolute path replaces the folder
        own = base if manifest["kind"] == "base" and base is not None else folder
        _verify(own, manifest["files"])
        if manifest["kind"] == "lora" and base is not None:
            _verify(base, manifest["base_files"])
        if not self.settings["fingerprint"] == manifest["fingerprint"] == _fingerprint(manifest):
            raise _refused(f"{folder}: its manifest is not the one that was registered")
        self._load(own, base if manifest["kind"] == "lora" else None)

    def predict(self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Answer every row.

        Args:
            context: not used.
            model_input: a column `messages` (lists of `role` and `content`) or `question`, and optionally `domain`.
            params: `max_tokens`, `temperature` (0 is greedy), `top_p`, `seed`.

        Returns:
            A row an answer: `answer`, `finish_reason` (`stop`, or `length` for one that was cut off) and `version`.

        Raises:
            MlflowException: a row holds no question, or one that is too long.
        """
        if not len(model_input):
            raise _refused(
                "the input holds no rows with `messages` or `question`: give {'question': '...'}, "
                "{'messages': [{'role': 'user', 'content': '...'}]}, or a DataFrame with such a column"
            )
        prompts = [self._encode(row) for row in model_input.to_dict(orient="records")]
        chosen = {**self.settings["sampling"], **{k: v for k, v in (params or {}).items() if v is not None}}
        rows: list[dict[str, str]] = []
        for start in range(0, len(prompts), _BATCH):
            rows += self._generate(prompts[start : start + _BATCH], chosen)
        return pandas.DataFrame(rows)

    def _load(self, checkpoint: Path, base: Path | None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        dtype = getattr(torch, self.settings["dtype"])
        source = checkpoint if base is None else base
        self.tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype, trust_remote_code=False)
        if base is not None:
            from peft import PeftModel

            # Small updates are lost when merged into half-precision weights, so an adapter is merged in single
            # precision. Its weights are then put into a model loaded in `dtype`, since a cast of the merged model would
            # also round the frequencies of rotary positions.
            exact = AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32, trust_remote_code=False)
            merged = PeftModel.from_pretrained(exact, str(checkpoint)).merge_and_unload(safe_merge=True)
            loaded.load_state_dict(merged.state_dict())
        self.model = loaded.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def _encode(self, row: Mapping[str, Any]) -> list[int]:
        messages, question = row.get("messages"), row.get("question")
        if isinstance(question, str) and question.strip():
            domain = row.get("domain") if isinstance(row.get("domain"), str) else "math"
            known: dict[str, list[list[str]]] = self.settings["solver"]
            if domain not in known:
                raise _refused(f"domain: is one of {', '.join(known)}, found {domain!r}")
            turns = [
                {"role": role, "content": text.replace(self.settings["placeholder"], question)}
                for role, text in known[domain]
            ]
        elif messages is not None and not isinstance(messages, float) and len(messages):
            turns = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages]
        else:
            raise _refused(f"a row needs `messages` or a `question` as text, found {dict(row)!r}")
        ids: list[int] = self.tokenizer(self._render(turns), add_special_tokens=self.settings["plain"])["input_ids"]
        if len(ids) >= self.settings["max_context"]:
            raise _refused(
                f"a question of {len(ids)} tokens leaves no room for an answer within the context of "
                f"{self.settings['max_context']}"
            )
        return ids

    def _render(self, turns: list[dict[str, str]]) -> str:
        """Render turns as one text; special tokens in them are broken up, so that no text can forge a turn."""
        for turn in turns:
            for token in self.settings["specials"]:
                turn["content"] = turn["content"].replace(token, f"{token[0]} {token[1:]}")
        if turns[0]["role"] == "system" and len(turns) > 1 and not self.settings["takes_system"]:
            turns[1]["content"] = f"{turns[0]['content']}\n\n{turns[1]['content']}"
            turns = turns[1:]
        if self.settings["plain"]:
            return "".join(f"{turn['content']}\n\n" for turn in turns)
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **self.settings["template_keywords"]
        )
        return text

    def _generate(self, prompts: list[list[int]], chosen: Mapping[str, Any]) -> list[dict[str, str]]:
        import torch
        from transformers import GenerationConfig

        width = max(map(len, prompts))
        pad, stops = self.settings["pad_id"], self.settings["stop_ids"]
        ids_P_T = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=self.model.device)
        mask_P_T = torch.tensor(
            [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=self.model.device
        )
        temperature = float(chosen["temperature"])
        sampling = {
            "do_sample": True,
            "temperature": temperature,
            "top_p": float(chosen["top_p"]),
            "top_k": int(chosen["top_k"]),
            "min_p": float(chosen["min_p"]) or None,
        }
        settings = GenerationConfig(
            max_new_tokens=min(int(chosen["max_tokens"]), self.settings["max_context"] - width),
            eos_token_id=stops,
            pad_token_id=pad,
            **(sampling if temperature > 0 else {"do_sample": False}),
        )
        with torch.random.fork_rng(), torch.inference_mode():  # keep the random state of other users of the server
            torch.manual_seed(int(chosen["seed"]))
            out_P_T = self.model.generate(ids_P_T, attention_mask=mask_P_T, generation_config=settings)
        return [self._answer(ids, frozenset(stops)) for ids in out_P_T[:, width:].tolist()]

    def _answer(self, ids: list[int], stops: frozenset[int]) -> dict[str, str]:
        end = next((place for place, token in enumerate(ids) if token in stops), None)
        text = self.tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return {
            "answer": text,
            "finish_reason": "length" if end is None else "stop",
            "version": self.settings["version"],
        }


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _refused(f"{folder / name}: cannot be read: {error.strerror}") from None
        if found != digest:
            raise _refused(f"{folder / name}: damaged: its contents changed since the version was written")


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    text = json.dumps([sorted(manifest["files"].items()), sorted(manifest["base_files"].items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _refused(text: str) -> MlflowException:
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(ChatModel())
