"""The blueprint's calls about one task, and an id that no task has."""

UNKNOWN = "00000000-0000-4000-8000-000000000000"

CALLS = [
    ("GET", ""),
    ("DELETE", ""),
    ("GET", "/progress"),
    ("GET", "/events"),
    ("GET", "/result"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("POST", "/seen"),
    ("POST", "/mute"),
    ("DELETE", "/mute"),
    ("POST", "/live-activity"),
    ("DELETE", "/live-activity"),
]
