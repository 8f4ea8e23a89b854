"""Each cloud: ``aws.py``, ``azure.py`` and ``vault.py`` are the calls of one verb; beside them the files with
its sessions, its credentials, and the one table that turns its errors into ours."""
