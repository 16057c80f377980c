"""For programs that follow tasks from elsewhere: the standard library only, beside the published documents."""
