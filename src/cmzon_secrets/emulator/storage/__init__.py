"""Where the account lies: the folder, and the database in it."""
