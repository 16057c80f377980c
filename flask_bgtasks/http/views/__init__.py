"""The views under the library's URLs."""
