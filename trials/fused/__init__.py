"""Training jobs as one batched model: the trial alone, the group, who fits into one, and whether it pays."""
