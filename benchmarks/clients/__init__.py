"""The clients that are measured: programs of a process of their own. Each imports only its own kind of client."""
