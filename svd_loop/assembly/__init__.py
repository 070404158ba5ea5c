"""Build the objects of a job from its configuration; the only package that imports every class.

- `data`: prompts and held-out problems from a source.
- `backends`: what generates and trains: a real model, or the scripted one.
- `job`: the parts of a job, assembled.
"""

from svd_loop.assembly.backends import Backend, make_backend
from svd_loop.assembly.data import build_prompts, problems_of, source_label
from svd_loop.assembly.job import Job, build_job

__all__ = ["Backend", "Job", "build_job", "build_prompts", "make_backend", "problems_of", "source_label"]
