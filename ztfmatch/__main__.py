"""``python -m ztfmatch`` is the command line."""

from ztfmatch.cli import main

main()
