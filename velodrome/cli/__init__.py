"""The command line ``velo``: click commands, one file each. The only package that may import click."""
