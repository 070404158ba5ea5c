"""Promotion: the gate between a new version and the champion, and queries about registered versions.

- `gate`: pure rules that compare a challenger with the champion;
- `examination`: measures versions for the gate and reuses stored answers;
- `promotion`: measures, decides, moves the aliases and records the reason; also rollback;
- `lookup`: versions as local folders, for serving and export;
- `registering`: registers a round by hand;
- `history`: champions of a model and their scores over time;
- `lineage`: the votes behind a training row, and the versions trained on it.

Versions and aliases are stored by `svd_loop.mlflow_store`.
"""
