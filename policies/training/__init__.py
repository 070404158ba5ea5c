"""The update: training rows, the trainer, and the processes it runs in."""
