"""Makes the deliveries in the outbox: to which sink, when, how often, and what happens when it is unreachable."""
