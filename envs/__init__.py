"""The world the policy acts in: prompts, the judging cascade, domains, and the Gymnasium environment.

Importing this package registers `SelfVerification-v0`; the environment itself is imported when one is made.
"""

from gymnasium.envs.registration import register

register(id="SelfVerification-v0", entry_point="envs.round_env:SelfVerificationEnv")
