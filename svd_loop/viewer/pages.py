"""The pages of a job: what each template is given. The same pages are served and exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from markupsafe import Markup

from svd_loop.contracts import Rejection
from svd_loop.errors import DataError
from svd_loop.ledger.browse import (
    CastVote,
    PromptPage,
    ShownCandidate,
    call_of,
    candidates_of,
    find_prompts,
    ids_beginning,
    neighbours,
    newest_calls,
    prompt_of,
    rounds_of,
)
from svd_loop.ledger.prompt_filter import OUTCOMES, SPLIT, PromptFilter
from svd_loop.report.charts import stacked, whisker
from svd_loop.report.overview import RoundView
from svd_loop.report.templating import environment
from svd_loop.viewer.held_out import (
    JUDGE,
    RESULTS,
    HeldOutFilter,
    misjudged,
    question_of,
    rows_of,
    samples_of,
    verdict_of,
)
from svd_loop.viewer.links import FileLinks, Links, prompt_name
from svd_loop.viewer.rich_text import plain, rich, visible
from svd_loop.viewer.source import JobSource

TEMPLATES = Path(__file__).with_name("templates")
PAGE = 50
"""Prompts or problems of a page."""
REJECTIONS = tuple(Rejection)


class NoSuchPageError(DataError):
    """The address names nothing of this job."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes of one stage with the same value and words: their numbers, and whether one of them decided."""

    stage: str
    numbers: Sequence[int]
    value: str
    words: str
    decided: bool


class Pages:
    """Renders the pages of a job.

    Args:
        source: the job.
        links: where the pages are.
        live: whether they are served and may change; an export is neither.
    """

    def __init__(self, source: JobSource, links: Links, *, live: bool) -> None:
        self.source = source
        self.links = links
        self.live = live
        self._environment = environment(TEMPLATES)

    def job(self) -> str:
        """The first page: scores, health and cost by round."""
        progress = self.source.progress() if self.live else []
        return self._render("job.html", page=self.source.overview(), progress=progress)

    def round(self, number: int) -> str:
        """One round: funnel, votes, health, scores and cost, and the ways to its samples."""
        view = self._round(number)
        others = [one.number for one in self.source.overview().rounds]
        reasons = self.source.rejections(number) if view.record.prompts else []
        return self._render("round.html", view=view, reasons=reasons, others=others)

    def prompts(self, number: int, query: Mapping[str, str]) -> str:
        """The prompts of a round that match the filter, a page of them."""
        wanted, after = prompt_filter(query), query.get("after", "")
        page = find_prompts(self.source.reader, number, wanted, after=after, limit=PAGE, seconds=0.7)
        return self._listed(number, page, asdict(wanted), after)

    def listed(self, number: int, ids: Sequence[str]) -> str:
        """The first prompts of a round, all on one page."""
        page = find_prompts(self.source.reader, number, limit=len(ids))
        return self._listed(number, page, asdict(PromptFilter()), "")

    def prompt(self, number: int, id: str, query: Mapping[str, str]) -> str:
        """One prompt with its candidates side by side, every vote, and what learned from it."""
        self._round(number)
        reader, wanted = self.source.reader, prompt_filter(query)
        candidates = candidates_of(reader, number, id)
        if not candidates:
            raise NoSuchPageError(f"round {number} has no prompt {id}")
        before, after = neighbours(reader, number, id, wanted) if self.live else (None, None)
        return self._render(
            "prompt.html",
            **self.sample(number, id, candidates),
            before=before,
            after=after,
            chosen=asdict(wanted),
            raw=bool(query.get("raw")),
        )

    def sample(self, number: int, id: str, candidates: Sequence[ShownCandidate]) -> dict[str, Any]:
        """What a prompt's page shows; an export of one file uses it too."""
        texts = Counter(candidate.text for candidate in candidates)
        return {
            "number": number,
            "id": id,
            "prompt": prompt_of(self.source.reader, id),
            "candidates": candidates,
            "votes": {one.mark.candidate: grouped(one.votes) for one in candidates},
            "versions": {
                one.mark.candidate: self.source.versions(id, one.mark.candidate, number)
                for one in candidates
                if one.mark.selected
            },
            "twins": {one.mark.candidate: twins(one, candidates) for one in candidates if texts[one.text] > 1},
            "judgements": self.source.judgements(id, number),
            "rounds": rounds_of(self.source.reader, id),
        }

    def one_file(
        self,
        chosen: Mapping[int, Sequence[str]],
        left_out: int,
        styles: Sequence[tuple[Markup, str]],
        scripts: Sequence[tuple[Markup, str]],
    ) -> str:
        """The whole job as one page: every round with its chosen prompts.

        Args:
            chosen: prompt ids by round.
            left_out: played prompts that are not among them.
            styles: style sheets as elements, with the expressions that allow them.
            scripts: likewise.
        """
        reader = self.source.reader
        samples = {
            number: [self.sample(number, id, candidates_of(reader, number, id)) for id in ids]
            for number, ids in chosen.items()
        }
        page = self.source.overview()
        return self._render(
            "bundle.html", page=page, samples=samples, left_out=left_out, styles=styles, scripts=scripts
        )

    def canaries(self, number: int) -> str:
        """The canaries of a round, those that fooled the judge first."""
        view = self._round(number)
        canaries = sorted(self.source.canaries(number), key=lambda one: (one.caught, one.number))
        return self._render("canaries.html", view=view, canaries=canaries)

    def held_out(self, number: int, query: Mapping[str, str]) -> str:
        """The held-out problems of a round's version that match the filter."""
        view, wanted = self._round(number), _held_out_filter(query)
        wrong = misjudged(self.source, view.record) if wanted.judge else None
        rows = rows_of(view.record, self.source.overview().rounds[0].record, wanted, wrong)
        after = int(query["after"]) if query.get("after", "").isdigit() else -1
        shown = [row for row in rows if row.place > after][: PAGE + 1]
        return self._render(
            "held_out.html",
            view=view,
            rows=shown[:PAGE],
            questions={row.id: question_of(self.source, view.record, row.id, special=False) for row in shown[:PAGE]},
            total=len(rows),
            chosen=asdict(wanted),
            more={**asdict(wanted), "after": str(shown[PAGE - 1].place)} if len(shown) > PAGE else None,
            results=RESULTS,
            judged=JUDGE,
            domains=list(dict.fromkeys(view.record.scores.domains)),
        )

    def problem(self, number: int, id: str, query: Mapping[str, str]) -> str:
        """One held-out problem with the samples of a round's version, and the audit's votes on them."""
        view, wanted = self._round(number), _held_out_filter(query)
        record, rounds = view.record, self.source.overview().rounds
        if id not in record.scores.problem_ids:
            raise NoSuchPageError(f"round {number} has no held-out problem {id}")
        wrong = misjudged(self.source, record) if wanted.judge else None
        rows = rows_of(record, rounds[0].record, wanted, wrong)
        place = record.scores.problem_ids.index(id)
        earlier = [row.id for row in rows if row.place < place]
        later = [row.id for row in rows if row.place > place]
        samples = samples_of(self.source, record, id)
        return self._render(
            "problem.html",
            view=view,
            id=id,
            domain=record.scores.domains[place],
            question=question_of(self.source, record, id, special=False),
            samples=[(sample, verdict_of(sample)) for sample in samples],
            by_round=[(one, _right(one, id)) for one in rounds if id in one.record.scores.problem_ids],
            before=earlier[-1] if earlier else None,
            after=later[0] if later else None,
            chosen=asdict(wanted),
            raw=bool(query.get("raw")),
        )

    def call(self, seq: int) -> str:
        """One reply, and exactly what the model was given."""
        call = call_of(self.source.reader, seq)
        if call is None:
            raise NoSuchPageError(f"there is no reply {seq}")
        return self._render("call.html", call=call, given=self.source.decoded(call.prompt_ids))

    def newest(self) -> str:
        """The newest replies of the job, whatever they are for."""
        return self._render("newest.html", calls=newest_calls(self.source.reader), pulse=self.source.pulse())

    def found(self, prefix: str) -> tuple[str | None, str]:
        """Return where a search for an id leads (None if it is not unique), and a page that lists what matches."""
        last = self.source.pulse().rounds - 1
        ids = ids_beginning(self.source.reader, prefix) if prefix else []
        places = [(id, rounds[-1]) for id in ids if (rounds := rounds_of(self.source.reader, id))]
        if len(places) == 1:
            return self.links.prompt(places[0][1], places[0][0]), ""
        overview = self.source.overview()
        held = [id for id in (overview.rounds[-1].record.scores.problem_ids if overview.rounds else ()) if prefix]
        problems = [id for id in held if id.startswith(prefix)][:20]
        if len(problems) == 1 and not places:
            return self.links.problem(last, problems[0]), ""
        return None, self._render("found.html", prefix=prefix, places=places, problems=problems, last=last)

    def error(self, title: str, text: str) -> str:
        """A page that says what went wrong."""
        return self._render("error.html", title=title, text=text)

    def _listed(self, number: int, page: PromptPage, chosen: Mapping[str, str], after: str) -> str:
        return self._render(
            "prompts.html",
            view=self._round(number),
            page=page,
            chosen=chosen,
            after=after,
            more={**chosen, "after": page.after or ""},
            domains=self.source.domains,
            outcomes=OUTCOMES,
            rejections=REJECTIONS,
            stages=self.source.stages,
            patterns=(SPLIT, "*i*", "n", "*n", "yn*"),
        )

    def _round(self, number: int) -> RoundView:
        view = self.source.round(number)
        if view is None:
            known = ", ".join(str(one.number) for one in self.source.overview().rounds) or "none yet"
            raise NoSuchPageError(f"the job has no round {number}; it has {known}")
        return view

    def _render(self, template: str, **context: Any) -> str:
        shared = {
            "link": self.links,
            "live": self.live,
            "in_one_file": isinstance(self.links, FileLinks) and self.links.single,
            "job": self.source.folder.name,
            "pulse": self.source.pulse(),
            "anchor": prompt_name,
            "rich": rich,
            "plain": plain,
            "visible": visible,
            "stacked": stacked,
            "whisker": whisker,
        }
        return self._environment.get_template(template).render({**shared, **context})


def prompt_filter(query: Mapping[str, str]) -> PromptFilter:
    """Return the filter that an address asks for.

    Raises:
        ConfigError: a value is none of the known ones.
    """
    return PromptFilter(**{field.name: query.get(field.name, "").strip() for field in fields(PromptFilter)})


def grouped(votes: Sequence[CastVote]) -> list[tuple[str, list[Votes]]]:
    """Return the votes by stage; those of a stage with the same value and words are one."""
    stages: dict[str, dict[tuple[str, str], list[CastVote]]] = {}
    for vote in votes:
        stages.setdefault(vote.stage, {}).setdefault((vote.value.value, vote.words), []).append(vote)
    return [
        (
            stage,
            [
                Votes(stage, [vote.vote for vote in same], value, words, any(vote.decided for vote in same))
                for (value, words), same in groups.items()
            ],
        )
        for stage, groups in stages.items()
    ]


def twins(one: ShownCandidate, candidates: Sequence[ShownCandidate]) -> list[tuple[int, bool]]:
    """Return candidates with the same text, and whether each got the other verdict."""
    return [
        (other.mark.candidate, other.mark.accepted != one.mark.accepted)
        for other in candidates
        if other is not one and other.text == one.text
    ]


def _right(view: RoundView, id: str) -> int:
    scores = view.record.scores
    return scores.correct[scores.problem_ids.index(id)]


def _held_out_filter(query: Mapping[str, str]) -> HeldOutFilter:
    return HeldOutFilter(*(query.get(name, "") for name in ("domain", "result", "judge")))
