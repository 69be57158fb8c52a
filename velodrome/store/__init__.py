"""The results store: one SQLite file, written by ``writer.Writer`` and read by ``reader.Reader``.

Nothing is imported here, so that a command that needs neither stays quick.
"""
