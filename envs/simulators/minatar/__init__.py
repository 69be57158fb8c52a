"""MinAtar's five games, one file each, written from their published rules (Young and Tian, 2019, arXiv:1903.03176).

Tests compare every step with the ``minatar`` package. ``common`` has what the games share.
"""
