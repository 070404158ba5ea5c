"""Fetch a data set of the hub once, into a folder that jobs read without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from svd_loop.errors import ConfigError, DataError, first_line
from svd_loop.support.part_folder import part_folder


def fetch_data(
    name: str, target: Path, *, split: str = "train", config: str | None = None, revision: str | None = None
) -> dict[str, Any]:
    """Save one split as a `datasets` folder with SOURCE.json beside it; appears complete or not at all.

    Args:
        name: OWNER/NAME, or a local folder that `datasets` reads.
        target: a new folder; the rows are in `<target>/<split>`.
        split: the split to save.
        config: the data set's configuration, where it has several.
        revision: a commit, tag or branch; None is the newest.

    Returns:
        What was fetched, as in SOURCE.json.

    Raises:
        ConfigError: `target` is not empty, or the data set cannot be had; says which of the two.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--to {target}: exists already; name a new folder, nothing is overwritten")
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        data = datasets.load_dataset(name, config, split=split, revision=revision)
    except DatasetNotFoundError as error:
        raise DataError(f"{name}: {first_line(error)}; for a gated or private one: `hf auth login`") from None
    except (ConnectionError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{name}: {first_line(error)}") from None
        raise DataError(
            f"{name}: is not in the cache of `datasets`, and the hub cannot be asked from here. Run the same command "
            f"where there is a network and copy {target} to this machine; or name a mirror by HF_ENDPOINT"
        ) from None
    except (DatasetsError, ValueError) as error:  # an unknown split or configuration; the message lists the known ones
        raise DataError(f"{name}: {first_line(error)}") from None
    source = {
        "data_set": name,
        "config": config,
        "split": split,
        "revision": revision,
        "rows": len(data),
        "columns": data.column_names,
        "fingerprint": data._fingerprint,
        "licence": data.info.license or None,
    }
    with part_folder(target) as part:
        data.save_to_disk(str(part / split))
        (part / "SOURCE.json").write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        part.rename(target)
    return source
