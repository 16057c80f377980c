"""What an app publishes to: Celery, RQ, Dramatiq or Huey over Redis, made as their documentation makes them."""


def make(engine, broker, name):
    """What the setting ``BGTASKS_<ENGINE>`` takes.

    :param broker: the address of a Redis. :param name: of the app, so that several can share that.
    """
    return globals()[f"_{engine}"](broker, name)


def _celery(broker, name):
    from celery import Celery

    instance = Celery("shop", broker=broker)
    instance.conf.task_default_queue = name
    instance.conf.worker_prefetch_multiplier = 1
    instance.conf.broker_connection_retry_on_startup = True
    return instance


def _rq(broker, name):
    import redis
    import rq

    return rq.Queue(name, connection=redis.Redis.from_url(broker))


def _dramatiq(broker, name):
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    made = RedisBroker(url=broker, namespace=name)
    dramatiq.set_broker(made)
    return made


def _huey(broker, name):
    import huey

    return {queue: huey.RedisHuey(f"{name}-{queue}", url=broker) for queue in ("default", "images")}
