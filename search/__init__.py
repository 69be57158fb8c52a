"""Search: spaces, samplers and schedulers. What to try next, and what is worth going on with."""
