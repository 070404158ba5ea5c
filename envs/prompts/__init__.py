"""Data input: reading, content ids, deduplication, the leak check, and the pool that rounds draw from."""

from envs.prompts.files import files_digest
from envs.prompts.leak import Leak, LeakIndex, LeakRule
from envs.prompts.normalise import content_id
from envs.prompts.pool import IngestReport, PromptPool, build_pool, leak_report
from envs.prompts.reading import GOLD_FIELDS, PromptStream, read_problems, read_prompts

__all__ = [
    "GOLD_FIELDS",
    "IngestReport",
    "Leak",
    "LeakIndex",
    "LeakRule",
    "PromptPool",
    "PromptStream",
    "build_pool",
    "content_id",
    "files_digest",
    "leak_report",
    "read_problems",
    "read_prompts",
]
