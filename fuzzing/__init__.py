"""Coverage-guided fuzzing of whatever a server can send. ``python -m fuzzing`` runs everything."""
