"""Everything that is kept in MLflow: runs of jobs and rounds, registered versions and their aliases.

- `connection`: opens the store, or says why not;
- `trackers`: the trackers of a job, told together; `mlflow_tracker`, `runs`, `metrics`, `datasets`: jobs and rounds as
  runs; `tensorboard_tracker`: as event files;
- `registrar`: registers the best version when a job ends;
- `registry`, `records`: registered versions, the aliases champion, challenger and previous, and what happened to them;
- `alias_lock`: one process at a time moves an alias;
- `packaging`: what a version needs to be loaded by MLflow; `retention`: which versions stay on disk.

MLflow is never the truth. Everything logged is derived from round records, which the ledger keeps, so a store that is
away for a while, or lost, is filled again from them; and a job goes on whatever happens to it.

Left out on purpose: traces of single votes (far too many, and the ledger has them) and autologging.
"""
