"""Write the files with which MLflow loads a stored version: as a model that answers questions, and with transformers.

They are in MLflow's own format and written into the version's folder, without a copy of the weights: `MLmodel` (how to
load it), `chat_model.py` (the code that loads it, see `policies.versions.chat_model`), `python_env.yaml` (required
packages) and `serving/settings.json` (prompt, sampling and stop tokens). For the flavor `transformers`, which looks for
a tokenizer and for the weights of an adapter's base below the folder, there are a copy of the tokenizer's files and a
link to the base. None of them is part of the weights' fingerprint.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as installed
from importlib.resources import files
from pathlib import Path
from typing import Any

from envs.cascade.template_sets import TemplateSet
from policies.versions.checkpoints import foundation
from policies.versions.portable import BASE, TOKENIZER
from policies.versions.stored import StoredVersion, read_manifest, stored_version
from svd_loop.config import Config
from svd_loop.contracts import Role
from svd_loop.support.atomic import write_atomically

CODE = "chat_model.py"
_EXAMPLE = {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}
_PLACEHOLDER = "\N{SYMBOL FOR UNIT SEPARATOR}question\N{SYMBOL FOR UNIT SEPARATOR}"
"""Placeholder of the question in the solver's prompt; does not occur in template sets."""
_EXAMPLE_FILE = "serving/input_example.json"


def make_loadable(folder: Path, config: Config, templates: TemplateSet) -> None:
    """Make the version in `folder` loadable by `mlflow.pyfunc`; may be called again. Skips scripted policies.

    Raises:
        ModelError: the version's tokenizer cannot be used.
        WeightsError: `folder` contains no version.
        OSError: a file cannot be written.
    """
    if not config.engine.has_weights:
        return
    stored = stored_version(folder)
    settings = _settings(stored, config, templates)
    (folder / "serving").mkdir(exist_ok=True)
    write_atomically(folder / "serving" / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")
    write_atomically(folder / _EXAMPLE_FILE, json.dumps(_EXAMPLE) + "\n")
    _put_beside(stored)
    (folder / CODE).write_bytes(files("policies.versions").joinpath(CODE).read_bytes())
    packages = ["mlflow", "torch", "transformers", *(["peft"] if stored.kind == "lora" else [])]
    pinned = [f"{name}=={installed(name).partition('+')[0]}" for name in packages]
    environment = {"python": platform.python_version(), "build_dependencies": ["pip"], "dependencies": pinned}
    write_atomically(folder / "python_env.yaml", json.dumps(environment, indent=1) + "\n")  # JSON is YAML
    write_atomically(folder / "MLmodel", _mlmodel(stored, settings))  # written last: it makes the folder loadable


def _put_beside(stored: StoredVersion) -> None:
    """Put what MLflow's flavor `transformers` needs below the version's folder."""
    own = stored.path / BASE
    if stored.kind != "full" and stored.base_path is not None and not own.is_symlink():
        own.symlink_to(stored.base_path.resolve(), target_is_directory=True)
    tokenizer = stored.path / TOKENIZER
    tokenizer.mkdir(parents=True, exist_ok=True)
    source, manifest = foundation(stored), read_manifest(stored.path)
    for name in manifest.base_files if stored.kind == "lora" else manifest.files:
        if not _holds_weights(name):
            shutil.copyfile(source / name, tokenizer / name)


def _holds_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".index.json"))


def _settings(stored: StoredVersion, config: Config, templates: TemplateSet) -> dict[str, Any]:
    from policies.versions.checkpoints import PLAIN_TEMPLATES, load_codec, resolve_device
    from policies.versions.precision import chosen_dtype

    codec = load_codec(stored, plain=config.model.templates == PLAIN_TEMPLATES)
    sampling = (config.evaluation.sampling or config.sampling).to_sampling()
    prompts = {
        domain: [[m.role, m.content] for m in templates.render(Role.SOLVER, domain, question=_PLACEHOLDER)]
        for domain in config.domains
    }
    return {
        "version": f"{config.job.name} {stored.version.name} {stored.version.fingerprint[:12]}",
        "fingerprint": stored.version.fingerprint,
        "dtype": chosen_dtype(config.model.dtype, foundation(stored), on_gpu=resolve_device("auto") == "cuda"),
        "max_context": config.model.max_context,
        "plain": codec.plain,
        "template_keywords": codec.template_keywords,
        "specials": codec.control,
        "stop_ids": sorted(codec.stop_ids),
        "pad_id": codec.pad_id,
        "sampling": asdict(sampling) | {"seed": 0},
        "takes_system": codec.takes_system,
        "placeholder": _PLACEHOLDER,
        "solver": prompts,
    }


def _mlmodel(stored: StoredVersion, settings: Mapping[str, Any]) -> str:
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array, Object, Property

    message = Object([Property("role", DataType.string), Property("content", DataType.string)])
    optional = [ColSpec(DataType.string, name, required=False) for name in ("question", "domain")]
    inputs: list[ColSpec | TensorSpec] = [ColSpec(Array(message), "messages", required=False), *optional]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, name) for name in ("answer", "finish_reason", "version")
    ]
    sampling = settings["sampling"]
    kinds = {
        "max_tokens": DataType.long,
        "temperature": DataType.double,
        "top_p": DataType.double,
        "seed": DataType.long,
    }
    params = [ParamSpec(name, kind, sampling[name]) for name, kind in kinds.items()]
    model = Model(
        signature=ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params)),
        saved_input_example_info={
            "artifact_path": _EXAMPLE_FILE,
            "serving_input_path": _EXAMPLE_FILE,
            "type": "json_object",
        },
        metadata={"fingerprint": stored.version.fingerprint},
    )
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=CODE,
        python_env="python_env.yaml",
        artifacts={"version": {"path": ".", "uri": "."}},
    )
    model.add_flavor(mlflow.transformers.FLAVOR_NAME, code=None, **_transformers_flavor(stored))
    return str(model.to_yaml())


def _transformers_flavor(stored: StoredVersion) -> dict[str, Any]:
    """Return what `mlflow.transformers.load_model` reads; automatic classes let transformers choose by the files."""
    flavor = {
        "transformers_version": installed("transformers"),
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": "AutoModelForCausalLM",
        "source_model_name": stored.path.name,
        "model_binary": "." if stored.kind == "full" else BASE,
        "components": ["tokenizer"],
        "tokenizer_type": "AutoTokenizer",
    }
    return flavor | {"peft_adaptor": "."} if stored.kind == "lora" else flavor
