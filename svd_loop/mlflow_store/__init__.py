"""MLflow store: runs of jobs and rounds, registered versions and their aliases.

- `connection`: opens the store, or raises an error that names the reason;
- `trackers`: calls all trackers of a job; `mlflow_tracker`, `runs`, `metrics`, `datasets`: jobs and rounds as runs;
  `logged_versions`: versions as logged models; `traces`: a sample of conversations; `tensorboard_tracker`: event files;
- `registrar`: registers the best version when a job ends;
- `registry`, `records`: registered versions, the aliases champion, challenger and previous, and their history;
- `alias_lock`: lets only one process at a time move an alias;
- `packaging`: the files that let MLflow load a version; `retention`: which versions stay on disk.

The ledger, not MLflow, is the source. Everything logged is derived from round records in the ledger, so a store that
was unavailable or lost is filled again from them, and a job continues whatever happens to the store.

Left out on purpose: traces of all votes (they are far too many, and the ledger stores them) and autologging.
"""
