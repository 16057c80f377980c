"""What the client does, step by step, without doing any of it: each step is an effect that somebody carries out."""
