"""Coverage-guided fuzzing of everything that a server can send. ``python -m fuzzing`` runs all targets."""
