"""One module for each database: how it is opened, locked, synced, and what its errors mean."""
