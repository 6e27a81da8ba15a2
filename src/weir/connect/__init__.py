"""Sources into Kafka: the jars, PostgreSQL, Kafka, Kafka Connect with Debezium, and Redis' and their settings.

In: the files under `connect/`. Out: commands for the supervisor, topics, the shop's schema, a running connector.
"""
