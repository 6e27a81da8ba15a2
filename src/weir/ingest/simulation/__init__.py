"""The real worker under a simulated Kafka and ClickHouse, in virtual time: what one seed did, it does again.

In: a seed. Out: what went wrong, or nothing. Keep: nothing here reads a clock, a network or a random source but the seed's; what it does not
cover stands in docs/decisions/0011.
"""
