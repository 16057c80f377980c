"""What pipeline code touches: steps, progress, output, checkpoints, and the attempt that they belong to."""
