"""Architectures as search spaces: parts and cells that sample to plain parameters and build to ``nn.Module``."""
