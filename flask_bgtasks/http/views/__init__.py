"""What is answered under the library's addresses."""
