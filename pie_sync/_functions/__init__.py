"""Python functions as programs: their source, the checks before anything is sent, and the manifest.

Not in here: the upload and the launch. Nothing here knows of a connection.
"""
