"""A view and its decorators: taken apart, called up to the function inside, and put together again."""
