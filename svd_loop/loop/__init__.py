"""The loop: the controller, the parts it is handed, and its pure decisions (plateau, limits, replay, health)."""
