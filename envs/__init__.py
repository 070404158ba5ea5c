"""Prompts, the judging cascade, domains, and the Gymnasium environment of a round.

Importing this package registers `SelfVerification-v0`; the environment's module is imported only when one is made.
"""

from gymnasium.envs.registration import register

register(id="SelfVerification-v0", entry_point="envs.round_env:SelfVerificationEnv")
