"""The agent: engines that generate, the policy that answers in roles, and the update that trains it."""
