"""``python -m pie_sync.cli``: the command, where the scripts of the environment are not on the path."""

from . import main

main()
