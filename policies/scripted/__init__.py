"""A policy without weights: for tests, for trying the loop, and for replaying recorded replies.

Part of the product, not of the tests: `engine.type: scripted` runs a whole job in seconds.

- `ScriptedPolicy` answers from a script: a simulated solver and judge, or a recording.
- `ScriptedUpdater` trains without gradients: the solver's skill moves towards the share of correct rows.
"""

from policies.scripted.policy import ScriptedPolicy, decode, encode
from policies.scripted.recording import RecordedScript
from policies.scripted.simulation import SimulatedScript, Traits
from policies.scripted.updater import ScriptedUpdater, read_traits, write_traits

__all__ = [
    "RecordedScript",
    "ScriptedPolicy",
    "ScriptedUpdater",
    "SimulatedScript",
    "Traits",
    "decode",
    "encode",
    "read_traits",
    "write_traits",
]
