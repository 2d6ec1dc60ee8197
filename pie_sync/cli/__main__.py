"""``python -m pie_sync.cli`` runs the command where the environment's scripts are not on the PATH."""

from . import main

main()
