"""One file a cloud: its session, its credentials, and the table that turns its errors into ours."""
