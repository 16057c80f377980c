"""Announcements by Redis' PUBLISH and SUBSCRIBE: for stores that cannot announce, in set-ups that have a Redis.

Two connections: one that has subscribed may send nothing else (redis.io/docs, "Redis Pub/Sub").
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import ConfigurationError
from ..wording import NO_REDIS_ADDRESS
from .channel import ANSWER_SECONDS, Channel, ChannelLost


class RedisChannel(Channel):
    """The channel of an app in a Redis.

    :param url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
    :raises ConfigurationError: redis-py cannot use it.
    """

    def __init__(self, url: str, *, app_id: str) -> None:
        self._name = f"bgtasks:{app_id}"
        try:
            self._pool = redis.ConnectionPool.from_url(
                url,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),  # a connection that was made again in silence has missed what came between
            )
            self._pool.connection_kwargs.update(decode_responses=False, encoding="utf-8")  # it is we who read them
            self._pool.connection_class(**self._pool.connection_kwargs)  # connects nowhere; an option may be none
        except (ValueError, TypeError):  # its text may have the password, or a part of it
            raise ConfigurationError(f"BGTASKS_ANNOUNCEMENTS: {NO_REDIS_ADDRESS}") from None
        # Of Redis, messages reach the subscribers of all databases: that of the URL is in the channel's name.
        self._name += f":{self._pool.connection_kwargs.get('db') or 0}"
        self._client: Any = None
        self._pubsub: Any = None

    def connect(self) -> None:
        self._client = redis.Redis(connection_pool=self._pool)
        self._call(self._client.ping)

    def listen(self) -> str | None:
        self._pubsub = self._client.pubsub()
        self._call(self._pubsub.subscribe, self._name)
        answer = self._call(self._pubsub.get_message, timeout=ANSWER_SECONDS)
        if answer is None or answer["type"] != "subscribe":
            raise ChannelLost("a subscription was not answered")
        return None

    def fileno(self) -> int:
        socket = self._pubsub.connection._sock  # redis-py names none in public; kombu waits for this one too
        if socket is None:
            raise ChannelLost("the connection was lost")
        number: int = socket.fileno()
        return number

    def received(self) -> list[str]:
        heard = []
        while self._call(self._pubsub.connection.can_read, 0):
            message = self._call(self._pubsub.get_message, timeout=ANSWER_SECONDS)
            if message is None:
                continue
            if message["type"] != "message":  # redis-py has connected and subscribed again
                raise ChannelLost("the connection was lost")
            heard.append(bytes(message["data"]).decode(errors="replace"))
        return heard

    def publish(self, message: str) -> None:
        self._call(self._client.publish, self._name, message)

    def prove(self, message: str) -> None:
        self.publish(message)  # by another connection than the one that hears

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (redis.RedisError, OSError) as error:
            raise ChannelLost(str(error) or type(error).__name__) from error

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
        self._client = None
        self._pool.disconnect()
