"""The loop: the controller, its parts, and its pure decisions (plateau, limits, replay, health)."""
