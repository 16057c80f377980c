"""What tasks, results and figures look like in an answer."""
