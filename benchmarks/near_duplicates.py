"""How many near duplicates the door finds, measured against comparing every pair.

    python benchmarks/near_duplicates.py --gsm8k ../shared/data/gsm8k

Takes GSM8K's training questions, edits each of them once in each of several ways (a word exchanged, a sentence added,
names replaced, ...) and passes originals and edited copies through the door, one kind of edit at a time. The search
for near duplicates is approximate: MinHash proposes pairs and the texts decide. Here every copy is also compared with
*every* prompt kept before it that has the same numbers, operators and brackets (the rule of `dedup.numbers_matter`),
so what the proposals miss is known.

For each kind the result gives, over copies that are not exact duplicates: the quantiles (5%, 50%, 95%) of Jaccard
similarity with the own original; `beyond_threshold`, how many copies have a kept prompt at or above `dedup.near`;
`found`, how many of those the door dropped, and `recall`, their share; `false_drops`, copies dropped although no kept
prompt is that similar. `exact` counts copies that the exact rule dropped. `by_similarity` gives recall over all kinds
in steps of similarity. Prints one JSON object; exit code 1 when anything was dropped falsely.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.prompts import build_pool, content_id
from envs.prompts.normalise import Form, compared
from envs.prompts.similarity import Bands, jaccard
from svd_loop.config.data import DedupSection, LeakSection
from svd_loop.contracts import Domain, Prompt

_WORD = re.compile(r"\b[a-z]{4,}\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
_NUMBER = re.compile(r"\d+")
_PUNCTUATION = re.compile(r"[.,?!](?=\s|$)")  # not the comma or point within a number
_SENTENCE_END = re.compile(r"(?<=[.?!]) +")
_FILLERS = ("Show your work.", "Please explain how you found the answer.", "Think about it carefully before you start.")
_OTHER_NAMES = ("Ottoline", "Thaddeus", "Winifred", "Zebedee", "Philippa", "Barnaby")
_STEPS = 20


def main() -> int:
    arguments = _arguments()
    settings = DedupSection(near=arguments.near)
    originals = _questions(arguments.gsm8k / "train.jsonl")
    words = sorted({word for question in originals for word in _WORD.findall(question)})
    kinds = {}
    bins: defaultdict[float, Counter[str]] = defaultdict(Counter)
    for name, edit in _edits(words).items():
        rng = random.Random(f"{arguments.seed}/{name}")
        copies = {original: edit(original, rng) for original in originals}
        outcome = _play({old: new for old, new in copies.items() if new != old}, originals, settings)
        for similarity, is_dropped in outcome.beyond:
            bins[int(similarity * _STEPS) / _STEPS].update(("beyond_threshold", *["found"] * is_dropped))
        kinds[name] = outcome.summary()
    bands = Bands(settings.near)
    result = {
        "originals": len(originals),
        "near": settings.near,
        "bands": bands.count,
        "rows": bands.rows,
        "kinds": kinds,
        "by_similarity": {f"{low:.2f}": _with_recall(counts) for low, counts in sorted(bins.items())},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return int(any(kind["false_drops"] for kind in kinds.values()))


@dataclass
class _Outcome:
    """What became of the copies of one kind."""

    to_original: list[float] = field(default_factory=list)
    beyond: list[tuple[float, bool]] = field(default_factory=list)
    exact: int = 0
    false_drops: int = 0

    def summary(self) -> dict[str, Any]:
        cuts = statistics.quantiles(self.to_original, n=20) if len(self.to_original) > 1 else []
        counts = Counter(beyond_threshold=len(self.beyond), found=sum(is_dropped for _, is_dropped in self.beyond))
        return {
            "copies": self.exact + len(self.to_original),
            "exact": self.exact,
            "similarity_quantiles": [round(cuts[index], 3) for index in (0, 9, 18)] if cuts else [],
            **_with_recall(counts),
            "false_drops": self.false_drops,
        }


def _play(copies: dict[str, str], originals: list[str], settings: DedupSection) -> _Outcome:
    """Originals, then copies, through the door; every copy judged by comparing it with all that was kept before it."""
    texts = [*originals, *copies.values()]
    kept = _kept(texts, settings)
    known: defaultdict[tuple[str, ...], list[Form]] = defaultdict(list)
    own = {new: old for old, new in copies.items()}
    outcome = _Outcome()
    for number, text in enumerate(texts):
        form = compared(text)
        earlier = known[form.marks]
        is_kept = text in kept
        kept.discard(text)  # a second copy of a text is a duplicate
        if number >= len(originals):
            best = max((jaccard(form.pairs(), other.pairs()) for other in earlier), default=0.0)
            if any(form.squeezed == other.squeezed for other in earlier):
                outcome.exact += not is_kept
            else:
                outcome.to_original.append(jaccard(form.pairs(), compared(own[text]).pairs()))
                if best >= settings.near:
                    outcome.beyond.append((best, not is_kept))
                else:
                    outcome.false_drops += not is_kept
        if is_kept:
            earlier.append(form)
    return outcome


def _kept(texts: list[str], settings: DedupSection) -> set[str]:
    prompts = (Prompt(content_id(text, Domain.MATH), text, Domain.MATH) for text in texts)
    with tempfile.TemporaryDirectory() as folder:
        pool = build_pool(
            prompts, [], Path(folder) / "prompts.sqlite", dedup=settings, leak=LeakSection(), digest="benchmark"
        )
        kept = {prompt.text for prompt in pool}
        pool.close()
    return kept


def _with_recall(counts: Counter[str]) -> dict[str, Any]:
    beyond, found = counts["beyond_threshold"], counts["found"]
    return {"beyond_threshold": beyond, "found": found, "recall": round(found / beyond, 4) if beyond else None}


# ------------------------------------------------------------------------------------------------ edits


def _edits(words: list[str]) -> dict[str, Callable[[str, random.Random], str]]:
    """Ways to make a copy, by name. All but the last keep the numbers; that one makes a sibling, which must stay."""

    def exchange(count: int) -> Callable[[str, random.Random], str]:
        def edit(text: str, rng: random.Random) -> str:
            for _ in range(count):
                text = _replace_one(_WORD, text, rng.choice(words), rng)
            return text

        return edit

    return {
        "case and punctuation": lambda text, rng: _PUNCTUATION.sub(" ; ", text.upper()),
        "one word exchanged": exchange(1),
        "two words exchanged": exchange(2),
        "four words exchanged": exchange(4),
        "one word left out": lambda text, rng: _replace_one(_WORD, text, "", rng),
        "sentence added": _add_sentence,
        "names replaced": _replace_names,
        "question put first": _question_first,
        "one number changed": lambda text, rng: _replace_one(_NUMBER, text, str(rng.randint(2, 999)), rng),
    }


def _replace_one(pattern: re.Pattern[str], text: str, new: str, rng: random.Random) -> str:
    places = list(pattern.finditer(text))
    if not places:
        return text
    place = rng.choice(places)
    return text[: place.start()] + new + text[place.end() :]


def _add_sentence(text: str, rng: random.Random) -> str:
    sentence = rng.choice(_FILLERS)
    return f"{sentence} {text}" if rng.random() < 0.5 else f"{text} {sentence}"


def _replace_names(text: str, rng: random.Random) -> str:
    """Every word that looks like a name gets another one, the same everywhere in the text."""
    names = list(dict.fromkeys(_NAME.findall(text)))[: len(_OTHER_NAMES)]
    for name, other in zip(names, rng.sample(_OTHER_NAMES, len(names)), strict=True):
        text = re.sub(rf"\b{name}\b", other, text)
    return text


def _question_first(text: str, rng: random.Random) -> str:
    *told, question = _SENTENCE_END.split(text)
    return " ".join((question, *told))


def _questions(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as lines:
        return list(dict.fromkeys(json.loads(line)["question"].strip() for line in lines))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, default=Path("../shared/data/gsm8k"), help="its folder")
    parser.add_argument("--near", type=float, default=DedupSection().near, help="the threshold, as dedup.near")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
