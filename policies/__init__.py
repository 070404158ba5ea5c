"""The agent: engines that generate, the policy that speaks in roles, and the update that trains it."""
