"""``python -m velodrome`` is ``velo``."""

from velodrome.cli.main import main

if __name__ == "__main__":
    main()
