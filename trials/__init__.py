"""Trials: their states and log, the manager, and the executors that run them."""
