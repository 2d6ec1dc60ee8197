"""``python -m pie_sync`` is the command ``pie-sync``, where the environment's scripts are not on the PATH."""

from .cli import main

main()
