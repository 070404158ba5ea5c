"""A few of a round's conversations as MLflow traces: a sample, and below it every vote in the judge's words.

The ledger holds all of them and MLflow is no place for millions, so a round gets `traces` of the tracker's section at
most. A trace has an id of its own content, so logging it again does not add one. The ledger has no times of single
calls: the spans of a trace have their order, and no duration.

MLflow's own exporter is not used: it writes in the background, to a store that the whole process shares, and drops what
it cannot write. Here each trace is written at once, a failure is raised, and `SECONDS` bound the whole.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_loop.contracts import VoteValue
from svd_loop.errors import SvdError
from svd_loop.ledger.browse import CastVote, ShownCandidate
from svd_loop.ledger.sample import SampledCandidate

if TYPE_CHECKING:
    from mlflow.entities import Assessment, Span, TraceInfo

SECONDS = 30.0
"""Time after which the rest of a round's traces is left out."""
_TEXT_LIMIT = 20_000
"""Characters of a text; longer ones are cut, and say so."""


@dataclass(frozen=True, slots=True)
class TracedRound:
    """Where the traces of a round belong.

    Attributes:
        experiment: id of the experiment.
        identity: the job's own id.
        job: the job's name.
        round: the round.
        run_id: the round's run.
        model_id: logged model of the version that wrote and judged the samples, if there is one.
        began: milliseconds since 1970 at which the round began.
    """

    experiment: str
    identity: str
    job: str
    round: int
    run_id: str
    model_id: str | None
    began: int


def log_traces(uri: str, place: TracedRound, samples: Sequence[SampledCandidate]) -> list[str]:
    """Write the traces; return their ids.

    Args:
        uri: the store.
        place: what they belong to.
        samples: the candidates.

    Raises:
        MlflowException: the store failed.
        SvdError: the store takes no traces, or was too slow.
    """
    from mlflow.tracing.client import TracingClient

    client, end = TracingClient(uri), time.monotonic() + SECONDS
    ids: list[str] = []
    for sample in samples:
        if time.monotonic() > end:
            raise SvdError(f"{len(ids)} of {len(samples)} conversations were traced in {SECONDS:.0f} s")
        info, spans = _trace(place, sample)
        try:
            client.log_spans(place.experiment, spans)
        except NotImplementedError as error:
            raise SvdError(f"it takes no traces: {error}") from None
        client.start_trace(info)
        ids.append(info.trace_id)
    return ids


def _trace(place: TracedRound, sample: SampledCandidate) -> tuple[TraceInfo, list[Span]]:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    candidate = sample.candidate
    number = _digest(place.identity, place.round, sample.prompt["id"], candidate.mark.candidate)[:32]
    trace_id, outcome = f"tr-{number}", _outcome(candidate)
    metadata = {"mlflow.sourceRun": place.run_id}
    if place.model_id is not None:
        metadata["mlflow.modelId"] = place.model_id
    info = TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(place.experiment),
        request_time=place.began,
        state=TraceState.OK,
        request_preview=_short(sample.prompt["text"], 1000),
        response_preview=_short(candidate.text, 1000),
        execution_duration=0,
        trace_metadata=metadata,
        tags={
            "mlflow.traceName": outcome,
            "svd_loop.job": place.job,
            "svd_loop.round": str(place.round),
            "svd_loop.prompt": str(sample.prompt["id"]),
            "svd_loop.candidate": str(candidate.mark.candidate),
            "svd_loop.domain": str(sample.prompt["domain"]),
            "svd_loop.outcome": outcome,
        },
        assessments=list(_assessments(trace_id, candidate)),
    )
    return info, list(_spans(trace_id, place.began * 1_000_000, sample))


def _outcome(candidate: ShownCandidate) -> str:
    mark = candidate.mark
    return "trained on" if mark.selected else "accepted" if mark.accepted else f"refused by {mark.stage}"


def _spans(trace_id: str, began: int, sample: SampledCandidate) -> Iterator[Span]:
    candidate = sample.candidate
    prompt, answer = {"prompt": _short(sample.prompt["text"])}, _short(candidate.text)
    make = _SpanMaker(trace_id, began)
    outcome = {"outcome": _outcome(candidate), "solution": answer}
    yield make(sample.prompt["id"], "CHAIN", prompt, outcome)
    solver = f"solution {candidate.mark.candidate} by {_writer(candidate)}"
    yield make(solver, "CHAT_MODEL", prompt, answer, _usage(candidate, "", -1), finish_reason=candidate.finish_reason)
    for vote in candidate.votes:
        verdict = {"verdict": vote.value.value, "words": _short(vote.words)}
        name = f"{vote.stage} vote {vote.vote}: {vote.value.value}{', decided' if vote.decided else ''}"
        yield make(name, "EVALUATOR", {"solution": answer}, verdict, _usage(candidate, vote.stage, vote.vote))


def _writer(candidate: ShownCandidate) -> str:
    return "?" if candidate.policy_round is None else f"round-{candidate.policy_round:03d}"


def _usage(candidate: ShownCandidate, stage: str, vote: int) -> dict[str, int]:
    """Return the tokens of the calls behind a vote; an empty stage is the solver's."""
    calls = [
        call
        for call in candidate.calls
        if (
            call.role == "solver" if not stage else (call.role != "solver" and (call.stage, call.vote) == (stage, vote))
        )
    ]
    read, written = sum(call.prompt_tokens for call in calls), sum(call.output_tokens for call in calls)
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written} if calls else {}


class _SpanMaker:
    """Makes the spans of one trace in order; the first is the root."""

    def __init__(self, trace_id: str, began: int) -> None:
        self._trace_id = trace_id
        self._began = began
        self._root = ""
        self._made = 0

    def __call__(
        self, name: str, kind: str, inputs: Any, outputs: Any, usage: Mapping[str, int] | None = None, **more: Any
    ) -> Span:
        from mlflow.entities import Span

        id, at = _digest(self._trace_id, self._made)[:16], self._began + self._made * 1000
        attributes = {
            "mlflow.traceRequestId": self._trace_id,
            "mlflow.spanType": kind,
            "mlflow.spanInputs": inputs,
            "mlflow.spanOutputs": outputs,
            **({"mlflow.chat.tokenUsage": dict(usage)} if usage else {}),
            **more,
        }
        data = {
            "trace_id": self._trace_id,
            "span_id": id,
            "parent_span_id": self._root,
            "name": name,
            "start_time_unix_nano": at,
            "end_time_unix_nano": at,
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()},
            "events": [],
        }
        self._root = self._root or id
        self._made += 1
        return Span.from_dict(data)


def _assessments(trace_id: str, candidate: ShownCandidate) -> Iterator[Assessment]:
    """Yield the opinion of each stage that voted, with the words of the vote that stands for it."""
    from mlflow.entities import AssessmentSource, Feedback

    source = AssessmentSource("LLM_JUDGE", _writer(candidate))
    stages: dict[str, list[CastVote]] = {}
    for vote in candidate.votes:
        stages.setdefault(vote.stage, []).append(vote)
    for stage, votes in stages.items():
        passed = candidate.mark.accepted or candidate.mark.stage != stage
        spoken = next((vote for vote in votes if vote.decided), votes[0])
        yes = sum(vote.value is VoteValue.YES for vote in votes)
        feedback = Feedback(
            name=stage,
            value="yes" if passed else "no",
            source=source,
            rationale=f"{yes} of {len(votes)} votes are yes. {_short(spoken.words, 2000)}",
            create_time_ms=0,
            trace_id=trace_id,
        )
        feedback.assessment_id = f"a-{_digest(trace_id, stage)[:32]}"
        yield feedback


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def _short(text: str, limit: int = _TEXT_LIMIT) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"
