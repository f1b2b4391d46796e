"""A plain Kafka consumer, as one stands in many places: reads, writes to Postgres, then commits to Kafka.

Without repeats only as long as nobody kills it between the two commits. It stops softly on SIGTERM.

    consumer.py BOOTSTRAP GROUP TOPIC POSTGRES_URL [idle]

With `idle` it only sits in the group, and writes and commits nothing.
"""

import signal
import sys

import psycopg2
from confluent_kafka import Consumer, TopicPartition
from psycopg2.extras import execute_values

bootstrap, group, topic, postgres_url = sys.argv[1:5]
idle = "idle" in sys.argv[5:]
running = True


def stop(_signal, _frame):
    global running
    running = False


def assigned(consumer, partitions):
    print("assigned", sorted(partition.partition for partition in partitions), flush=True)
    if idle:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)


def apply(connection, messages):
    rows, totals = [], {}
    for message in messages:
        rows.append((message.topic(), message.partition(), message.offset()))
        account = (message.key() or b"").decode()
        balance, payments = totals.get(account, (0, 0))
        totals[account] = (balance + int((message.value() or b"0").split()[0]), payments + 1)
    with connection, connection.cursor() as cursor:
        execute_values(cursor, "INSERT INTO sink VALUES %s", rows)
        execute_values(
            cursor,
            "INSERT INTO balances AS b VALUES %s ON CONFLICT (account) DO UPDATE"
            " SET balance = b.balance + excluded.balance, payments = b.payments + excluded.payments",
            [(account, *total) for account, total in sorted(totals.items())],
        )


def commit(consumer, messages):
    positions = {message.partition(): message.offset() + 1 for message in messages}
    offsets = [TopicPartition(topic, partition, offset) for partition, offset in positions.items()]
    consumer.commit(offsets=offsets, asynchronous=False)


def main():
    signal.signal(signal.SIGTERM, stop)
    connection = psycopg2.connect(postgres_url)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "broker.address.family": "v4",
            "group.id": group,
            "client.id": "legacy-python",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic], on_assign=assigned)
    while running:
        messages = consumer.consume(num_messages=100, timeout=0.2)
        for message in messages:
            if message.error():
                raise RuntimeError(message.error())
        if messages and not idle:
            apply(connection, messages)
            commit(consumer, messages)
    consumer.close()
    print("stopped", flush=True)


main()
