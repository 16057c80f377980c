"""This process and the server around it: forks, threads, stops, connections, log lines."""
