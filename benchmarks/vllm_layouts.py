"""What vLLM's prefix cache answers of the judge's prompts, by the layout of the templates and by how a job asks.

Two layouts: the chat set as it is (question and answer first, the stage's instruction last), and the instruction moved
to the front. Two ways of asking: every vote of every stage of two candidates a prompt, and a round as a job plays it,
one candidate of a prompt after the other until one is accepted, each left at its first vote that is not yes. The
embedded weights serve because only prompts matter: answers are cut short, and the judge's words are drawn (`Drawn`).
An engine for each layout starts with an empty cache; the two ways of asking have prompts of their own.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from policies.engines.serving import PrefixCache
from policies.engines.vllm import VllmEngine
from policies.opening import open_engine
from policies.policy import ModelPolicy
from policies.versions.checkpoints import load_codec
from policies.versions.weights import WeightStore
from svd_loop.config import Config
from svd_loop.contracts import (
    BUILT_IN_ROLES,
    AgentCall,
    Candidate,
    FinishReason,
    Policy,
    PolicyVersion,
    Prompt,
    Reply,
    Role,
    Sampling,
)
from svd_loop.nano import NANO_CHECKPOINT

CHAT = Path(__file__).parents[1] / "envs" / "templates" / "chat"
CONTEXT = 16384  # the chat set's prompts exceed nano's 512
GOOD, YES_TO_GOOD, YES_TO_BAD = 0.38, 0.97, 0.3


class Drawn:
    """Asks a policy, for its cache's sake, and puts drawn words in place of what comes back.

    A share `GOOD` of the candidates is right, as of nano's first ones; with these chances of a yes a round leaves about
    as many prompts accepted as nano's cascade does. An inferred question is the prompt's own with a number that differs
    from vote to vote, as sampled ones do.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        self._policy = policy
        self._questions = {prompt.id: prompt.text for prompt in prompts}

    @property
    def version(self) -> PolicyVersion:
        """The weights that are asked."""
        return self._policy.version

    def key(self, call: AgentCall) -> str:
        """The asked policy's key."""
        return self._policy.key(call)

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Drawn words."""
        return [self._drawn(call, reply) for call, reply in zip(calls, self._policy.generate(calls), strict=True)]

    def close(self) -> None:
        """Close the asked policy."""
        self._policy.close()

    def _drawn(self, call: AgentCall, reply: Reply) -> Reply:
        good = random.Random(f"{call.id.prompt_id}/{call.id.candidate}").random() < GOOD
        draw = call.id.seed(0) / 2**63
        text = "[[Y]]" if draw < (YES_TO_GOOD if good else YES_TO_BAD) else "[[N]]"
        if call.id.role == Role.QUESTION_INFERRER:
            text = f"{self._questions[call.id.prompt_id]} ({draw:.4f})"
        return replace(reply, text=text, finish_reason=FinishReason.STOP)


def layouts(config: Config, prompts: Sequence[Prompt], folder: Path, repeat: int) -> dict[str, Any]:
    """The cache's share of judge prompt tokens, by layout and by way of asking.

    Args:
        config: the nano job on vLLM.
        prompts: half of them are asked every vote, the others play a round.
        folder: scratch.
        repeat: how often a candidate repeats its short text, to see solutions of several lengths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roomy = shutil.copytree(NANO_CHECKPOINT, folder / "checkpoint")
    described = json.loads((roomy / "config.json").read_text(encoding="utf-8"))
    described["max_position_embeddings"] = CONTEXT
    (roomy / "config.json").write_text(json.dumps(described), encoding="utf-8")
    stored = WeightStore(folder / "versions").add_base(roomy)
    codec = load_codec(stored)
    model = config.model.model_copy(update={"max_context": CONTEXT})
    half = len(prompts) // 2
    found: dict[str, Any] = {}
    for name, templates in (("question first", "chat"), ("instruction first", instruction_first(folder))):
        cascade = Cascade(TemplateSet.load(templates), config.cascade.model_copy(update={"invalid_retries": 0}))
        with closing(open_engine(stored, codec, config.engine, model)) as engine:  # type: ignore[arg-type]
            assert isinstance(engine, VllmEngine)
            short = dict.fromkeys(BUILT_IN_ROLES, Sampling(4))
            policy = ModelPolicy(engine, codec, PolicyVersion(0, ""), short, job_seed=0, max_context=CONTEXT)
            judge, cache = Drawn(policy, prompts), engine.prefix_cache
            ask_everything(cascade, judge, prompts[:half], repeat)
            before = replace(cache)
            accepted = play(cascade, judge, prompts[half:], repeat)
            found[name] = {
                "all votes": share(before, PrefixCache()),
                "early exit": {**share(cache, before), "accepted_prompts": accepted},
            }
    return found


def ask_everything(cascade: Cascade, judge: Policy, prompts: Sequence[Prompt], repeat: int) -> None:
    """Every vote of two candidates a prompt."""
    items = [(p, Candidate(p.id, index, solution(p, index, repeat))) for p in prompts for index in range(2)]
    replace(cascade, settings=cascade.settings.model_copy(update={"early_exit": False})).judge(judge, items, round=1)


def play(cascade: Cascade, judge: Policy, prompts: Sequence[Prompt], repeat: int) -> int:
    """A round of up to eight candidates a prompt; returns how many prompts had one accepted."""
    environment = SelfVerificationEnv(prompts=prompts, judge=judge, cascade=cascade, n=8, block=1)
    _, info = environment.reset()
    while info["open"]:
        texts = [solution(prompts[place], index, repeat) for place in info["open"] for index in info["indices"]]
        _, _, _, _, info = environment.step(environment.action(texts))
    return len(info["outcome"].selected)


def solution(prompt: Prompt, index: int, repeat: int) -> str:
    """A text that only this candidate has."""
    return f"{prompt.text} try {index} " * repeat


def share(after: PrefixCache, before: PrefixCache) -> dict[str, float]:
    """Prompt tokens between two counts, and the share of them that the cache held."""
    asked = after.prompt_tokens - before.prompt_tokens
    return {"prompt_tokens": asked, "hit_rate": (after.cached_tokens - before.cached_tokens) / asked}


def instruction_first(folder: Path) -> str:
    """A copy of the chat set whose judge prompts begin with what differs between stages; returns its path."""
    copy = shutil.copytree(CHAT, folder / "instruction-first")
    for role in (Role.QUESTION_INFERRER, Role.QUESTION_COMPARER, Role.FACT_CHECKER, Role.GRADER):
        path = copy / f"{role}.txt"
        opening, *blocks, instruction = path.read_text(encoding="utf-8").split("\n\n=== ")
        last, _, instruction = instruction.partition(" ===\n\n")
        body = instruction if instruction else last
        shown = "\n\n".join(f"=== {block}" for block in (*blocks, f"{last} ==="))
        path.write_text(f"{opening}\n\n{body.strip()}\n\n{shown}\n", encoding="utf-8")
    return str(copy)
