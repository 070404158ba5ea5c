"""From a round to production: the gate between a new version and the one in use, and what is asked about versions.

- `gate`: pure rules that compare a challenger with the champion;
- `examination`: measures versions for the gate, paying for nothing twice;
- `promotion`: measure, decide, move the aliases, write down why; and the way back;
- `lookup`: versions as local folders, for serving and export;
- `registering`: registers a round by hand;
- `history`: champions and their scores over the months;
- `lineage`: why was it trained on this?

The versions and aliases themselves are kept by `svd_loop.mlflow_store`.
"""
