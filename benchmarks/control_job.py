"""One job with a control in place of the cascade, for `benchmarks.controls`; prints what `svd-loop run --json` prints.

python -m benchmarks.control_job configs/nano.yaml '{"type": "gold"}' -o job.name=gold-1
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pydantic import TypeAdapter

from svd_loop.config import load_config
from svd_loop.config.controls import AnyControl
from svd_loop.experiments.controls import control_of
from svd_loop.jobs import run_job
from svd_loop.report import result_json


def main() -> None:
    """Play the job and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("control", help="as an arm's `control` in a sweep's file, in JSON")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    section: AnyControl = TypeAdapter(AnyControl).validate_json(options.control)
    result = run_job(config, control=control_of(section, config))
    sys.stdout.write(json.dumps(result_json(result)) + "\n")


if __name__ == "__main__":
    main()
