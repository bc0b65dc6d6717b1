"""Run by test_data_plane_images in a pod: stores a value on a server, and prints all values stored there."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import aiokafka
import aiokafka.admin
import psycopg
import redis.asyncio

from aether_operator import brokers
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.server_owners import Ownership, ServerOwner


async def postgres(host: str, username: str, password: str, word: str) -> list[str]:
    where = f"host={host} dbname=aether connect_timeout=10"
    async with await psycopg.AsyncConnection.connect(
        where, user=username, password=password, autocommit=True
    ) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        if word:
            await connection.execute("INSERT INTO kept VALUES (%s)", (word,))
        rows = await (await connection.execute("SELECT word FROM kept ORDER BY word")).fetchall()
        # As the operator's schema: partitions by pg_partman, with a login that is no superuser.
        await connection.execute("CREATE TABLE IF NOT EXISTS parts (at timestamptz NOT NULL) PARTITION BY RANGE (at)")
        known = await connection.execute("SELECT FROM partman.part_config WHERE parent_table = 'public.parts'")
        if not known.rowcount:
            await connection.execute("SELECT partman.create_parent('public.parts', 'at', 'native', 'daily')")
        await connection.execute("CALL partman.run_maintenance_proc()")
        return [row[0] for row in rows]


async def redis_(host: str, username: str, password: str, word: str) -> list[str]:
    async with redis.asyncio.Redis(host=host, username=username, password=password, decode_responses=True) as client:
        if word:
            await client.rpush("kept", word)
        return [str(one) for one in await client.lrange("kept", 0, -1)]


async def nats(host: str, username: str, password: str, word: str) -> list[str]:
    """By hand: this runs in the operator's image, which has no NATS library."""
    reader, writer = await asyncio.open_connection(host, 4222)
    login = {"user": username, "pass": password, "verbose": False, "headers": False}
    writer.write(f"CONNECT {json.dumps(login)}\r\nSUB inbox.* 1\r\n".encode())

    async def answer(subject: str, text: str = "") -> dict[str, Any]:
        writer.write(f"PUB {subject} inbox.1 {len(text)}\r\n{text}\r\n".encode())
        while not (line := (await reader.readuntil(b"\r\n")).decode()).startswith("MSG"):
            if line.startswith("-ERR"):
                raise RuntimeError(line)
        data: dict[str, Any] = json.loads(await reader.readexactly(int(line.split()[-1])))
        return data

    try:
        await answer(
            "$JS.API.STREAM.CREATE.kept", json.dumps({"name": "kept", "subjects": ["kept"], "storage": "file"})
        )
        if word:
            await answer("kept", word)
        state = (await answer("$JS.API.STREAM.INFO.kept"))["state"]
        asked = [json.dumps({"seq": one + 1}) for one in range(state["messages"])]
        messages = [await answer("$JS.API.STREAM.MSG.GET.kept", one) for one in asked]
        return [base64.b64decode(one["message"]["data"]).decode() for one in messages]
    finally:
        writer.close()


async def kafka(host: str, username: str, password: str, word: str) -> list[str]:
    login = {
        "bootstrap_servers": f"{host}:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": username,
        "sasl_plain_password": password,
    }
    admin = aiokafka.admin.AIOKafkaAdminClient(**login)
    try:
        await admin.start()
        if "kept" not in await admin.list_topics():
            await admin.create_topics([aiokafka.admin.NewTopic("kept", 1, 1)])
    finally:
        await admin.close()
    if word:
        async with aiokafka.AIOKafkaProducer(**login, acks="all") as producer:
            await producer.send_and_wait("kept", word.encode())
    async with aiokafka.AIOKafkaConsumer(**login, auto_offset_reset="earliest") as consumer:
        part = aiokafka.TopicPartition("kept", 0)
        consumer.assign([part])
        count = (await consumer.end_offsets([part]))[part]
        values = [(await consumer.getone()).value for _ in range(count)]
        return [value.decode() for value in values if value is not None]


PORTS = {"kafka": 9092, "nats": 4222, "redis": 6379}


async def checked(server: str, host: str, username: str, password: str, _word: str) -> None:
    """Claim the server as the operator does; its report has causes that libraries only log."""
    if server in PORTS:
        endpoint = Endpoint(host=host, port=PORTS[server], username=username, password=SecretText(password))
        owner = ServerOwner(namespace="trading", uid="5d8f", name="paper", venue="Simulated")
        report = await brokers.claim(Server(server), endpoint, owner, str, deadline=20)
        for _ in range(100):  # a pod is Ready a moment before kube-proxy routes its Service to it
            if report.reason is not Reason.UNREACHABLE:
                break
            await asyncio.sleep(0.2)
            report = await brokers.claim(Server(server), endpoint, owner, str, deadline=20)
        if report.ownership is not Ownership.OURS:
            raise RuntimeError(report)


CLIENTS = {"postgres": postgres, "redis": redis_, "nats": nats, "kafka": kafka}


async def main(server: str, *words: str) -> None:
    try:
        await checked(server, *words)
        async with asyncio.timeout(40):
            kept = await CLIENTS[server](*words)
    except Exception as fault:  # noqa: BLE001 - the test compares each library's message
        print(json.dumps({"fault": f"{type(fault).__name__}: {fault}"}))
    else:
        print(json.dumps({"kept": kept}))


asyncio.run(main(*sys.argv[1:]))
