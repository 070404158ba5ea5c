"""A round without waves: every candidate and every vote moves on as soon as it can."""
